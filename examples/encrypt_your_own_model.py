"""Compile an ONNX network and predict on an encrypted digit, in ten lines.

python examples/encrypt_your_own_model.py
"""

from pathlib import Path

import hec
import mnist

calibration, test, labels = mnist.load()

plan = hec.compile(Path(__file__).parent / "models" / "mlp.onnx", calibration=calibration)
client = hec.Client(plan)  # makes the secret key, and keeps it
server = hec.Server(plan, client.evaluation_keys())  # holds the weights, and cannot decrypt

request = client.encrypt(test[:1])  # what travels to the server
reply = server.run(request)  # what travels back
logits = client.decrypt(reply)

print(f"predicted {logits.argmax()}, label {labels[0]}")
