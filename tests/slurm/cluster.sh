#!/bin/bash
# A Slurm cluster of four virtual nodes on this machine, or of NODES, out of Debian's packages, in a folder of its own.
#   [NODES=1] tests/slurm/cluster.sh start FOLDER [accounting]
#   tests/slurm/cluster.sh stop FOLDER
# While it runs, /etc/slurm/slurm.conf is a link to its configuration: jobs of Snakemake's plugin drop SLURM_CONF.
# Needs root (slurmd starts jobs for users) and: apt-get install slurm-wlm munge, and slurmdbd mariadb-server for accounting.
# node1 to node3 are alike; node4 has another feature. No GPU is there: a node's gres `gpu:h100` is a name without a device.
set -euo pipefail
what=$1 folder=$(realpath -m "$2") accounting=${3:-} nodes=${NODES:-4}
export SLURM_CONF=$folder/slurm.conf
export PATH=$PATH:/usr/sbin

stop() {
  for file in "$folder"/pids/*.pid; do
    [ -s "$file" ] || continue
    kill "$(cat "$file")" 2> /dev/null || true
  done
  for file in "$folder"/pids/*.pid; do
    for _ in $(seq 50); do
      [ -s "$file" ] && ps -o stat= -p "$(cat "$file")" | grep -qv Z || break
      sleep 0.2
    done
  done
}

until_true() {  # SECONDS WHAT COMMAND...
  local seconds=$1 words=$2
  shift 2
  for _ in $(seq $((seconds * 2))); do "$@" > /dev/null 2>&1 && return; sleep 0.5; done
  echo "cluster: $words did not come up in $seconds s; its logs are in $folder/logs" >&2
  exit 1
}

if [ "$what" = stop ]; then
  stop
  [ "$(readlink /etc/slurm/slurm.conf)" != "$SLURM_CONF" ] || rm /etc/slurm/slurm.conf
  exit
fi
if [ -e /etc/slurm/slurm.conf ] && [ "$(readlink /etc/slurm/slurm.conf)" != "$SLURM_CONF" ]; then
  printf 'cluster: /etc/slurm/slurm.conf\n  found:    the configuration of another cluster\n  expected: none\n  to do:    %s\n' \
    "run this on a machine that belongs to no cluster, or stop the one that is there" >&2
  exit 2
fi

for tool in munged slurmctld slurmd ${accounting:+slurmdbd mariadbd}; do
  command -v "$tool" > /dev/null || {
    printf 'cluster: %s\n  found:    no such program\n  expected: Debian'"'"'s Slurm\n  to do:    %s\n' "$tool" \
      "apt-get install --no-install-recommends slurm-wlm munge${accounting:+ slurmdbd mariadb-server}" >&2
    exit 2
  }
done
mkdir -p "$folder"/{state,pids,logs,spool,munge}
chmod 755 "$folder"
chmod 700 "$folder/munge"
user=$(id -un) host=$(hostname -s)
port=$((20000 + $(printf %s "$folder" | cksum | cut -d ' ' -f 1) % 20000))
[ -s "$folder/munge/key" ] || (umask 077; dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 2> /dev/null)
# munged wants a socket folder that all may enter; the key stays in one of its own.
mkdir -p "$folder/socket" && chmod 711 "$folder/socket"
munged --key-file "$folder/munge/key" --socket "$folder/socket/munge" --pid-file "$folder/pids/munged.pid" \
  --log-file "$folder/logs/munged.log" --seed-file "$folder/munge/seed" --force 2> "$folder/logs/munged.out"

cat > "$SLURM_CONF" << END
ClusterName=bakeoff
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=$folder/socket/munge
SlurmctldPort=$port
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/pids/slurmctld.pid
SlurmdPidFile=$folder/pids/slurmd-%n.pid
SlurmctldLogFile=$folder/logs/slurmctld.log
SlurmdLogFile=$folder/logs/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=5
GresTypes=gpu
$([ -z "$accounting" ] || printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=127.0.0.1 \
  AccountingStoragePort=$((port + 20)) "AccountingStoragePass=$folder/socket/munge" JobAcctGatherType=jobacct_gather/linux)
$(for number in $(seq "$nodes"); do
  echo "NodeName=node$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number)) CPUs=$(nproc) RealMemory=128000 \
Feature=$([ "$number" = 4 ] && echo a100 || echo h100) Gres=gpu:$([ "$number" = 4 ] && echo a100 || echo h100):1"
done)
PartitionName=gpu Nodes=node[1-$nodes] Default=YES MaxTime=180 State=UP
END
ln -sfn "$SLURM_CONF" /etc/slurm/slurm.conf
for number in $(seq "$nodes"); do
  mkdir -p "$folder/spool/node$number"
  touch "$folder/spool/gpu$number"
  echo "NodeName=node$number Name=gpu Type=$([ "$number" = 4 ] && echo a100 || echo h100) File=$folder/spool/gpu$number"
done > "$folder/gres.conf"

if [ -n "$accounting" ]; then
  database=$folder/database
  if [ ! -d "$database" ]; then
    mariadb-install-db --no-defaults --user="$user" --datadir="$database" --auth-root-authentication-method=normal \
      > "$folder/logs/mariadb-install.log" 2>&1
  fi
  mariadbd --no-defaults --user="$user" --datadir="$database" --socket="$folder/socket/mariadb" --skip-networking \
    --pid-file="$folder/pids/mariadb.pid" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    > "$folder/logs/mariadb.log" 2>&1 &
  until_true 30 mariadb mariadb --no-defaults --socket="$folder/socket/mariadb" -u root -e 'select 1'
  cat > "$folder/slurmdbd.conf" << END
AuthType=auth/munge
AuthInfo=socket=$folder/socket/munge
DbdHost=localhost
DbdPort=$((port + 20))
SlurmUser=$user
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=slurm
PidFile=$folder/pids/slurmdbd.pid
LogFile=$folder/logs/slurmdbd.log
END
  chmod 600 "$folder/slurmdbd.conf"
  MYSQL_UNIX_PORT=$folder/socket/mariadb slurmdbd
  until_true 30 slurmdbd sacctmgr -n show cluster
  sacctmgr -n show cluster bakeoff format=cluster | grep -q bakeoff || sacctmgr -i add cluster bakeoff > /dev/null
fi
slurmctld
until_true 30 slurmctld scontrol ping
for number in $(seq "$nodes"); do slurmd -N "node$number"; done
idle() { [ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" = "$nodes" ]; }
until_true 60 "$nodes nodes" idle
