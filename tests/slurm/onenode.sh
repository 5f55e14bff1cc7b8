#!/usr/bin/env bash
# A real SLURM on this one machine, on the loopback interface, without systemd: for tests, on Debian, as root.
#   onenode.sh up     install what is missing, start munge, (mariadb, slurmdbd,) slurmctld, slurmd
#   onenode.sh down   cancel what runs, stop what `up` started, by pid
# ACCT=dbd|none: with or without accounting. GPUS=N: advertise N fake GPUs. NODES=2: a second node, on this machine too.
set -euo pipefail
ACCT=${ACCT:-dbd} GPUS=${GPUS:-2} NODES=${NODES:-1}
RUN=/run/lnt-slurm LOG=/var/log/lnt-slurm STATE=/var/lib/lnt-slurm HOST=$(hostname -s)

until_ok() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; echo "gave up waiting for: $*" >&2; return 1; }
alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

install_packages() {
  local missing=() name
  for name in slurmctld slurmd slurm-client munge slurmdbd mariadb-server; do
    dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

nodes() { [ "$NODES" = 1 ] && echo "$HOST" || echo "$HOST,lnt-two"; }
second_node() { [ "$NODES" = 1 ] || echo "NodeName=lnt-two NodeHostname=$HOST NodeAddr=127.0.0.1 Port=16818 CPUs=$2 RealMemory=$1"; }

configure() {
  local memory=$(($(slurmd -C | sed -n 's/.*RealMemory=\([0-9]*\).*/\1/p') * 9 / 10)) cores accounting i
  cores=$(nproc)
  accounting=AccountingStorageType=accounting_storage/none
  [ "$ACCT" = dbd ] && accounting=$'AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost'
  mkdir -p "$STATE/gpus"
  for i in $(seq 0 $((GPUS - 1))); do [ -c "$STATE/gpus/gpu$i" ] || mknod "$STATE/gpus/gpu$i" c 1 3; done
  echo "NodeName=$HOST Name=gpu File=$STATE/gpus/gpu[0-$((GPUS - 1))]" >/etc/slurm/gres.conf
  cat >/etc/slurm/slurm.conf <<CONF
ClusterName=lnt
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
# a requeued job waits until its credential has expired
AuthInfo=cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd-%n.pid
StateSaveLocation=$STATE/slurmctld
SlurmdSpoolDir=$STATE/slurmd-%n
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
SlurmdTimeout=$([ "$NODES" = 1 ] && echo 300 || echo 10) # seconds after which a node without its slurmd is down
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=10
MaxArraySize=4
JobRequeue=1
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
$accounting
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$((2 * cores)) RealMemory=$memory Gres=gpu:$GPUS State=UNKNOWN
$(second_node "$memory" "$cores")
PartitionName=test Nodes=$(nodes) Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=15
PartitionName=urgent Nodes=$HOST MaxTime=INFINITE State=UP PriorityTier=2
CONF
}

start_accounting() {
  install -d -o mysql -g mysql /run/mysqld
  [ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=mysql >/dev/null
  if ! alive "$RUN/mariadbd.pid"; then
    setsid mariadbd --user=mysql --skip-networking --socket=/run/mysqld/mysqld.sock >"$LOG/mariadbd.log" 2>&1 </dev/null &
    echo $! >"$RUN/mariadbd.pid"
  fi
  until_ok mariadb-admin --socket=/run/mysqld/mysqld.sock ping
  mariadb -e "DROP DATABASE IF EXISTS lnt_slurm; CREATE DATABASE lnt_slurm;
    CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED VIA unix_socket; GRANT ALL ON lnt_slurm.* TO 'slurm'@'localhost';"
  install -o slurm -g slurm -m 600 /dev/null /etc/slurm/slurmdbd.conf
  cat >/etc/slurm/slurmdbd.conf <<CONF
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
CommunicationParameters=NoInAddrAny
SlurmUser=slurm
PidFile=$RUN/slurmdbd.pid
LogFile=$LOG/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=lnt_slurm
CONF
  alive "$RUN/slurmdbd.pid" || slurmdbd
  until_ok sacctmgr -n show cluster
}

up() {
  [ "$(id -u)" = 0 ] || { echo "onenode.sh must run as root" >&2; exit 2; }
  if [ -s /etc/slurm/slurm.conf ] && ! grep -q '^ClusterName=lnt$' /etc/slurm/slurm.conf; then
    echo "/etc/slurm/slurm.conf is another cluster's; this test cluster would replace it" >&2; exit 2
  fi
  install_packages
  case "$(getent ahostsv4 "$HOST" | awk 'NR == 1 { print $1 }')" in
    127.*) ;;
    *) echo "the name $HOST must resolve to 127.0.0.1 (in /etc/hosts)" >&2; exit 2 ;;
  esac
  rm -rf "$STATE/slurmctld" "$STATE"/slurmd-*
  install -d -o slurm -g slurm "$RUN" "$LOG" "$STATE" "$STATE/slurmctld"
  install -d -o munge -g munge /run/munge
  [ -s /etc/munge/munge.key ] || { dd if=/dev/urandom bs=1024 count=1 of=/etc/munge/munge.key status=none; chown munge: /etc/munge/munge.key; chmod 400 /etc/munge/munge.key; }
  configure
  alive /run/munge/munged.pid || { rm -f /run/munge/munge.socket*; setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged; echo 1 >"$RUN/munged.ours"; }
  until_ok sh -c 'munge -n | unmunge'
  [ "$ACCT" = dbd ] && start_accounting
  slurmctld && until_ok sh -c "scontrol ping | grep -q 'is UP'"
  local node
  for node in $(nodes | tr , ' '); do install -d "$STATE/slurmd-$node" && slurmd -N "$node"; done
  until_ok sh -c "sinfo -h -o %T | grep -qE 'idle|mixed|allocated'"
}

stop() { # pid file, name of the process
  alive "$1" || { rm -f "$1"; return 0; }
  local pid; pid=$(cat "$1")
  case "$(cat "/proc/$pid/comm")" in "$2"*) ;; *) return 0 ;; esac
  kill "$pid"
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$1"
}

down() {
  if timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
    timeout 10 squeue -h -o %A | sort -u | xargs -r timeout 10 scancel || true
    for _ in $(seq 20); do [ -z "$(timeout 5 squeue -h)" ] && break; sleep 0.5; done
  fi
  local file
  for file in "$RUN"/slurmd-*.pid; do stop "$file" slurmd; done
  stop "$RUN/slurmctld.pid" slurmctld
  stop "$RUN/slurmdbd.pid" slurmdbd
  stop "$RUN/mariadbd.pid" mariadbd
  [ -e "$RUN/munged.ours" ] && stop /run/munge/munged.pid munged
  rm -f "$RUN/munged.ours"
}

"$1"
