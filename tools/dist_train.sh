#!/usr/bin/env bash
# Train on several GPUs of one or several machines: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# For several machines, set NNODES, NODE_RANK, MASTER_ADDR and, if 29500 is taken, PORT.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2,3p "$0" >&2; exit 2; }
CONFIG=$1 GPUS=$2
shift 2
[[ $GPUS =~ ^[1-9][0-9]*$ ]] || { echo "error: GPUS must be a positive integer, got $GPUS" >&2; exit 2; }
[ -f "$CONFIG" ] || { echo "error: there is no config $CONFIG" >&2; exit 2; }
exec "${PYTHON:-python}" -m mmdysample.engine.torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
