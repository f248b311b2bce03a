# Sourced by the scripts of this folder: the checkout, the dependency line, the Python, the processes.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STACK=${MMDET_CBN_STACK:-default}

# The comment at the top of a script is its help.
case ${1:-} in
    -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit
        ;;
esac

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

case $STACK in
    default) VENV=$ROOT/.venv ;;
    classic) VENV=$ROOT/.venv-classic ;;
    *) fail "MMDET_CBN_STACK=$STACK is not known; it can be default or classic" ;;
esac

is_count() { # is_count TEXT: whether it is a whole number from 1
    [[ $1 =~ ^[1-9][0-9]*$ ]]
}

# PYTHON of the environment, else the checkout's own environment, else whatever is active.
choose_python() {
    if [[ -z ${PYTHON:-} && -x $VENV/bin/python ]]; then
        PYTHON=$VENV/bin/python
    fi
    PYTHON=${PYTHON:-python3}
    command -v "$PYTHON" >/dev/null || fail "no $PYTHON here; run tools/setup_env.sh, or set PYTHON"
    export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
}

# distribute PROGRAM GPUS [ARGUMENT ...]: run tools/PROGRAM in GPUS processes on this machine.
distribute() {
    local program=$ROOT/tools/$1 processes=$2
    shift 2
    is_count "$processes" || fail "GPUS=$processes is not a number of processes"
    local nodes=${NNODES:-1} node=${NODE_RANK:-0} port=${PORT:-29500}
    is_count "$nodes" || fail "NNODES=$nodes is not a number of machines"
    [[ $node =~ ^[0-9]+$ ]] && ((node < nodes)) ||
        fail "NODE_RANK=$node is not the number of one of the $nodes machines, which are counted from 0"
    is_count "$port" && ((port < 65536)) || fail "PORT=$port is not the number of a port, 1 to 65535"
    choose_python

    # torchrun buries what a process says under its own report, so what can be known is checked before.
    # Ranks that another launcher left in the environment are none of this process.
    env -u RANK -u LOCAL_RANK LOCAL_WORLD_SIZE="$processes" "$PYTHON" "$program" "$@" --launcher pytorch --check

    if [[ $nodes == 1 && -z ${PORT:-} ]]; then # any free port: two runs on one machine do not collide
        port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
    elif ((node == 0)) && ! "$PYTHON" -c 'import socket, sys
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", int(sys.argv[1])))' "$port" 2>/dev/null; then
        fail "PORT=$port is taken on this machine; set PORT to another one, or unset it for one machine"
    fi
    local threads=$(($(nproc) / processes))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
    exec "$PYTHON" -m torch.distributed.run \
        --nnodes="$nodes" \
        --node_rank="$node" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="$port" \
        --nproc_per_node="$processes" \
        "$program" "$@" --launcher pytorch
}

# submit PARTITION JOB_NAME PROGRAM [ARGUMENT ...]: run tools/PROGRAM with srun, one process for each GPU.
submit() {
    local partition=$1 job=$2 program=$ROOT/tools/$3 gpus=${GPUS:-8}
    shift 3
    is_count "$gpus" || fail "GPUS=$gpus is not a number of GPUs"
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    is_count "$per_node" || fail "GPUS_PER_NODE=$per_node is not a number of GPUs"
    command -v srun >/dev/null || fail 'no srun here; without Slurm use tools/dist_train.sh and dist_test.sh'
    choose_python
    # SRUN_ARGS holds several arguments, so it is meant to be split.
    # shellcheck disable=SC2086
    exec srun \
        --partition="$partition" \
        --job-name="$job" \
        --gres="gpu:$per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "$PYTHON" -u "$program" "$@" --launcher slurm
}
