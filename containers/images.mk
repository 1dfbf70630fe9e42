# Container images: built from images.lock.yaml, run without privileges. IMAGE is cpu, cu130, cu130-profile or published-2026-02.
IMAGE ?= cpu
# STANDIN=1: Debian in place of NVIDIA's base, where no registry can be reached.
export STANDIN TORCH_INDEX

.PHONY: container-tools can-build-images image get-image sif record-image confirm-base sbom registry-login push-image reproduce-in-container preflight-in-container \
  test-container rehearse-containers test-containers-full

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
CONTAINER_TOOLS := buildah podman runc skopeo mmdebstrap

container-tools:  ## install what builds and runs images, on Debian or Ubuntu
	@command -v $(CONTAINER_TOOLS) | wc -l | grep -qx $(words $(CONTAINER_TOOLS)) || { $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $(CONTAINER_TOOLS) curl debian-archive-keyring > /dev/null; }

can-build-images:  ## can this machine build images? or the reason
	@containers/can_build.sh

image: .venv/.reproduce  ## build IMAGE and its archive; prints the digest
	@containers/image.sh build $(IMAGE) > /dev/null
	@$(if $(STANDIN),,containers/image.sh archive $(IMAGE))

get-image:  ## IMAGE on this host: attested and pulled by its digest where it is published, else built, with its digest recorded
	@containers/image.sh attested $(IMAGE)
	@GPUS=none containers/run.sh $(IMAGE) true 2> /dev/null || \
	  { $(MAKE) --no-print-directory container-tools image IMAGE=$(IMAGE) ENVIRONMENT=cpu && containers/image.sh record $(IMAGE) && GPUS=none containers/run.sh $(IMAGE) true; }

sif:  ## build IMAGE with Apptainer alone
	@containers/image.sh sif $(IMAGE)

record-image:  ## write the built IMAGE's digest into containers/images.lock.yaml
	@containers/image.sh record $(IMAGE)

confirm-base:  ## ask the registry for the base of IMAGE by its digest
	@containers/image.sh confirm $(IMAGE)

sbom: .venv/.develop  ## bill of materials of the built IMAGE, under .cache/images/
	@$(BIN)/python -m bakeoff image $(IMAGE) --sbom .cache/images

registry-login:  ## log in to the registry of REPOSITORY as REGISTRY_USER with REGISTRY_TOKEN (from the environment)
	@printenv REGISTRY_TOKEN | skopeo login --username "$$REGISTRY_USER" --password-stdin "$${REPOSITORY%%/*}"

push-image:  ## publish the archive of IMAGE as REPOSITORY, in lower case, tagged with version and digest of the locks
	@containers/image.sh push $(IMAGE) "$$REPOSITORY" | tee -a "$${GITHUB_OUTPUT:-/dev/null}"

preflight-in-container:  ## can IMAGE run on this host, with its GPU? or the reason and the fix
	@containers/run.sh $(IMAGE) bakeoff preflight $(if $(filter cpu,$(IMAGE)),,--gpu)

reproduce-in-container:  ## the whole workflow inside IMAGE: no network, read-only root, no privileges
	@containers/run.sh $(IMAGE) make reproduce CORES=$(CORES) ARGS="$(ARGS)"

test-container: .venv/.develop  ## build the CPU image and run tests inside it
	@BAKEOFF_CONTAINER_TESTS=small $(BIN)/python -m pytest tests/containers/test_image.py -v --durations=0

rehearse-containers: .venv/.develop  ## the commands of docs/b200.md with real containers of the image cpu, which is built first
	@$(MAKE) --no-print-directory container-tools image IMAGE=cpu
	@BAKEOFF_REHEARSE_WITH=$$(command -v podman) $(BIN)/python -m pytest tests/integration/test_b200.py -v --durations=0

test-containers-full: .venv/.develop  ## every image built and run as far as a machine without a GPU can; needs 40 GB of free disk
	@BAKEOFF_CONTAINER_TESTS=full $(BIN)/python -m pytest tests/containers/test_image.py -v --durations=0
