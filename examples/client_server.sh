#!/usr/bin/env bash
# One prediction with the command line: who does what, and which files travel between them.
#
#   examples/client_server.sh [FOLDER]     keeps its files in FOLDER, else in a temporary folder
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
[ $# -gt 0 ] || trap 'rm -rf "$work"' EXIT
python "$here/mnist.py" "$work"
cd "$work"

echo "== the model's owner compiles, and checks the plan against data in the clear"
hec compile "$here/models/mlp.onnx" -o model.hec --calibration calibration.npz
hec check model.hec --data samples.npz --labels labels.npy

echo "== the data's owner makes keys; keys/ stays here, but for keys/evaluation.key"
hec keygen model.hec -o keys/

echo "== the data's owner encrypts one image"
hec encrypt model.hec --keys keys/ x.npy -o x.enc

echo "== the server predicts: model.hec, keys/evaluation.key, x.enc are all that it sees"
hec run model.hec --keys keys/evaluation.key x.enc -o y.enc

echo "== the data's owner decrypts"
hec decrypt model.hec --keys keys/ y.enc -o y.npy
python -c "import numpy; print('predicted', numpy.load('y.npy').argmax(), 'label', numpy.load('labels.npy')[0])"
