"""Workload files: every line becomes a case, or an error that names file, line and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bakeoff.errors import InputError
from bakeoff.files import csv_rows, json_document, plain_number
from bakeoff.traces.definitions import check_implemented
from bakeoff.traces.models import Definition
from bakeoff.traces.store import RoutingStats, TraceRoot
from support.minimal_traces import NARROW, TRACES, moe_line, moe_root


def test_a_line_without_the_bakeoff_object_is_a_workload(tmp_path: Path) -> None:
    """Adding a workload is adding a line: routing figures are computed when a run is planned."""
    (case,) = moe_root(tmp_path, [moe_line(129, 224)]).workloads(NARROW)
    assert (case.id, case.seq_len, case.offset, case.factor) == ("T129_o224", 129, 224, 2.5)
    assert (case.seed, case.stats) == (None, None)


def test_the_bakeoff_object_gives_seed_and_routing_figures(tmp_path: Path) -> None:
    note = {"id": "T5_o64", "seed": 3, "local_pairs": 4, "active_tokens": 2, "active_experts": 3}
    (case,) = moe_root(tmp_path, [moe_line() | {"bakeoff": note}]).workloads(NARROW)
    assert (case.seed, case.stats) == (3, RoutingStats(local_pairs=4, active_tokens=2, active_experts=3))


def test_cases_keep_the_order_of_the_file_and_empty_lines_do_not_count(tmp_path: Path) -> None:
    text = "\n" + "".join(json.dumps(moe_line(length)) + "\n\n" for length in (9, 2, 4))
    assert [case.seq_len for case in moe_root(tmp_path, text).workloads(NARROW)] == [9, 2, 4]


def test_the_same_length_at_another_offset_is_another_workload(tmp_path: Path) -> None:
    cases = moe_root(tmp_path, [moe_line(5, 0), moe_line(5, 32)]).workloads(NARROW)
    assert [case.id for case in cases] == ["T5_o0", "T5_o32"]


def test_the_grid_stands_apart_and_its_routing_is_in_its_names(tmp_path: Path) -> None:
    root = moe_root(tmp_path, [moe_line(5, 32)])
    grid = root.workload_path(NARROW, "grid")
    grid.parent.mkdir(parents=True)
    notes = [{"routing": "even"}, {"routing": "local8"}]
    added = [moe_line(5, 32) | {"bakeoff": note} for note in notes]
    for number, line in enumerate(added):
        line["workload"] = {**line["workload"], "uuid": f"grid-{number}"}
    grid.write_text("".join(json.dumps(line) + "\n" for line in added))
    assert [case.id for case in root.workloads(NARROW)] == ["T5_o32"]
    cases = root.workloads(NARROW, further=True)
    assert [case.id for case in cases] == ["T5_o32", "T5_o32_even", "T5_o32_local8"]
    assert [case.further for case in cases] == [False, True, True]
    grid.write_text(json.dumps(added[0] | {"bakeoff": {"routing": "uneven"}}))
    with pytest.raises(InputError, match="routing"):
        root.workloads(NARROW, further=True)


def _inputs(line: dict[str, Any]) -> dict[str, Any]:
    return line["workload"]["inputs"]  # type: ignore[no-any-return]


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "of another definition": (lambda line: line.update(definition="other"), "field definition"),
    "a result, not a workload": (lambda line: line.update(solution="someone"), "field definition"),
    "no length": (lambda line: line["workload"]["axes"].clear(), "field workload.axes"),
    "an axis too many": (lambda line: line["workload"]["axes"].update(depth=2), "field workload.axes"),
    "no token": (lambda line: line["workload"]["axes"].update(seq_len=0), "field workload.axes.seq_len"),
    "a length that is a text": (
        lambda line: line["workload"]["axes"].update(seq_len="7"),
        "field workload.axes.seq_len",
    ),
    "no offset": (lambda line: _inputs(line).pop("local_expert_offset"), "local_expert_offset"),
    "a random offset": (
        lambda line: _inputs(line).update(local_expert_offset={"type": "random"}),
        "local_expert_offset",
    ),
    "an offset within a group": (lambda line: _inputs(line)["local_expert_offset"].update(value=33), "offset.value"),
    "an offset past the last": (lambda line: _inputs(line)["local_expert_offset"].update(value=256), "offset.value"),
    "more tokens than kernels can count": (
        lambda line: line["workload"]["axes"].update(seq_len=2**18 + 1),
        "field workload.axes.seq_len",
    ),
    "a negative offset": (lambda line: _inputs(line)["local_expert_offset"].update(value=-32), "offset.value"),
    "an offset that is no whole number": (
        lambda line: _inputs(line)["local_expert_offset"].update(value=32.0),
        "offset",
    ),
    "an offset that is a truth value": (lambda line: _inputs(line)["local_expert_offset"].update(value=True), "offset"),
    "a factor that is a truth value": (
        lambda line: _inputs(line)["routed_scaling_factor"].update(value=True),
        "routed_scaling_factor",
    ),
    "no factor": (lambda line: _inputs(line).pop("routed_scaling_factor"), "routed_scaling_factor"),
    "an unknown input": (lambda line: _inputs(line).update(temperature={"type": "random"}), "inputs.temperature"),
    "an unknown kind of input": (
        lambda line: _inputs(line).update(routing_bias={"type": "cloud"}),
        "inputs.routing_bias",
    ),
    "another id": (lambda line: line.update(bakeoff={"id": "T6_o64"}), "field bakeoff.id"),
    "a misspelt key": (lambda line: line.update(bakeoff={"sede": 1}), "field sede"),
    "a seed that is a text": (lambda line: line.update(bakeoff={"seed": "1"}), "field seed"),
    "routing figures in part": (lambda line: line.update(bakeoff={"local_pairs": 4}), "field bakeoff.active_tokens"),
    "more pairs than can be": (
        lambda line: line.update(bakeoff={"local_pairs": 999_999, "active_tokens": 2, "active_experts": 4}),
        "field bakeoff.local_pairs",
    ),
    "more active tokens than tokens": (
        lambda line: line.update(bakeoff={"local_pairs": 8, "active_tokens": 9, "active_experts": 4}),
        "field bakeoff.active_tokens",
    ),
    "fewer active tokens than the pairs need": (
        lambda line: line.update(bakeoff={"local_pairs": 9, "active_tokens": 1, "active_experts": 4}),
        "field bakeoff.active_tokens",
    ),
    "more active experts than there are": (
        lambda line: line.update(bakeoff={"local_pairs": 40, "active_tokens": 5, "active_experts": 33}),
        "field bakeoff.active_experts",
    ),
    "no uuid": (lambda line: line["workload"].pop("uuid"), "field workload.uuid"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_line_is_refused_with_file_line_and_field(tmp_path: Path, name: str) -> None:
    spoil, field = SPOILT[name]
    spoilt = moe_line()
    spoil(spoilt)
    root = moe_root(tmp_path, [moe_line(1), spoilt, moe_line(3)])
    with pytest.raises(InputError) as caught:
        root.workloads(NARROW)
    assert f"{NARROW}.jsonl:2" in caught.value.where
    assert field in caught.value.where
    assert caught.value.found and caught.value.expected and caught.value.hint


def test_a_key_that_stands_twice_is_refused_and_named(tmp_path: Path) -> None:
    line = json.dumps(moe_line()).replace('"axes": {', '"axes": {"seq_len": 14, ')
    with pytest.raises(InputError, match=rf"{NARROW}\.jsonl:1") as caught:
        moe_root(tmp_path, line).workloads(NARROW)
    assert "the key 'seq_len' stands twice" in caught.value.found


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"\xff\xfe", b"[1,]", b"", b'"\\ud800', b"[" * 900 + b"\x00"],
)
def test_what_no_reader_takes_is_one_error_with_the_file(text: bytes) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        json_document(text, "config.json")


@pytest.mark.parametrize(
    "text", ["1_0.5", "\u0661\u0662.\u0665", "12.5\u00a0", "1,5", "", "inf", "nan", "1e400", "0x10", " 1", "1e"]
)
def test_a_number_in_a_table_is_written_as_any_program_writes_it(text: str) -> None:
    with pytest.raises(ValueError, match="no plain number"):
        plain_number(text)
    assert [plain_number(right) for right in ("1", "-1.5", "+.5", "2.", "1e-3")] == [1, -1.5, 0.5, 2, 0.001]


def test_a_table_may_start_with_a_byte_order_mark_and_has_no_field_without_end(tmp_path: Path) -> None:
    assert csv_rows("\ufeffa,b\n1,2\n", "t.csv") == [["a", "b"], ["1", "2"]]
    for text in ("x" * 200_000, '"a"b,c\n', 'a,"b'):
        with pytest.raises(InputError, match=r"t\.csv"):
            csv_rows(text, "t.csv")


def test_a_definition_is_the_operation_that_is_measured_here_or_refused(tmp_path: Path) -> None:
    root = moe_root(tmp_path, [moe_line()])
    sound = root.definition(NARROW).model_dump(mode="json", exclude_unset=True)
    check_implemented(Definition.model_validate(sound), "d.json")
    check_implemented(Definition.model_validate({**sound, "description": "other words"}), "d.json")

    def spoil(change: Callable[[dict[str, Any]], object]) -> Definition:
        document = json.loads(json.dumps(sound))
        change(document)
        return Definition.model_validate(document)

    for change, field in (
        (lambda d: d["inputs"]["hidden_states"].update(dtype="bfloat16"), "inputs.hidden_states"),
        (lambda d: d["axes"]["num_experts"].update(value=128), "axes.num_experts"),
        (
            lambda d: d["inputs"]["hidden_states_scale"].update(shape=["seq_len", "num_hidden_blocks"]),
            "hidden_states_s",
        ),
        (lambda d: d["inputs"].pop("routing_bias"), "field inputs"),
        (lambda d: d["inputs"].update(routing_bias=d["inputs"].pop("routing_bias")), "field inputs"),
        (lambda d: d["outputs"]["output"].update(dtype="float32"), "outputs.output"),
    ):
        with pytest.raises(InputError, match=field):
            check_implemented(spoil(change), "d.json")


def test_a_line_that_is_no_json_is_refused_with_its_number(tmp_path: Path) -> None:
    root = moe_root(tmp_path, json.dumps(moe_line()) + '\n{"definition": \n')
    with pytest.raises(InputError, match=rf"{NARROW}\.jsonl:2"):
        root.workloads(NARROW)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1" + "0" * 39])
def test_what_is_no_number_in_json_is_refused(tmp_path: Path, value: str) -> None:
    line = json.dumps(moe_line()).replace('"value": 2.5', f'"value": {value}')
    assert value in line
    with pytest.raises(InputError, match=rf"{NARROW}\.jsonl:1") as caught:
        moe_root(tmp_path, line).workloads(NARROW)
    assert caught.value.found == value[:40]
    assert caught.value.where.endswith("field workload.inputs.routed_scaling_factor.value")


@pytest.mark.parametrize("change", [{}, {"uuid": "another"}])
def test_a_workload_that_stands_twice_is_refused_naming_both_lines(tmp_path: Path, change: dict[str, str]) -> None:
    twin = moe_line()
    twin["workload"].update(change)
    with pytest.raises(InputError) as caught:
        moe_root(tmp_path, [moe_line(), moe_line(7), twin]).workloads(NARROW)
    assert f"{NARROW}.jsonl:3" in caught.value.where and f"{NARROW}.jsonl:1" in caught.value.found
    assert "T5_o64" in caught.value.found


def test_two_workloads_with_one_uuid_are_refused(tmp_path: Path) -> None:
    twin = moe_line(7)
    twin["workload"]["uuid"] = moe_line()["workload"]["uuid"]
    with pytest.raises(InputError, match=r"workload\.uuid"):
        moe_root(tmp_path, [moe_line(), twin]).workloads(NARROW)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_a_workload_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no workload"):
        moe_root(tmp_path, text).workloads(NARROW)


def test_a_missing_workload_file_is_refused(tmp_path: Path) -> None:
    root = moe_root(tmp_path, [moe_line()])
    root.workload_path(NARROW).unlink()
    with pytest.raises(InputError, match=r"jsonl"):
        root.workloads(NARROW)


def test_an_unknown_definition_is_answered_with_those_that_are_there() -> None:
    with pytest.raises(InputError, match=NARROW):
        TraceRoot(TRACES).definition("nothing")


def test_a_definition_must_have_the_name_of_its_file(tmp_path: Path) -> None:
    root = moe_root(tmp_path, [moe_line()])
    path = root.definition_path(NARROW)
    path.rename(path.with_name("renamed.json"))
    with pytest.raises(InputError, match=r"renamed\.json: fields name and op_type"):
        root.definition("renamed")


def test_a_broken_definition_is_refused_with_file_and_field(tmp_path: Path) -> None:
    root = moe_root(tmp_path, [moe_line()])
    path = root.definition_path(NARROW)
    path.write_text(path.read_text().replace('"float8_e4m3fn"', '"float9"'))
    with pytest.raises(InputError, match=r"h512_i256\.json: field inputs\.hidden_states\.dtype"):
        root.workloads(NARROW)


def test_the_line_that_the_readme_shows_is_a_workload(tmp_path: Path) -> None:
    block = (TRACES / "README.md").read_text().split("```json\n")[1].split("```")[0]
    (case,) = moe_root(tmp_path, block).workloads(NARROW)
    assert case.id == "T127_o64" and case.seed is None
