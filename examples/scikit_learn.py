"""A scikit-learn pipeline, and the diagnosis of a patient whose measurements nobody else sees.

pip install "hec[sklearn]"
python examples/scikit_learn.py
"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hec

data = load_breast_cancer()
names = data.target_names[data.target]  # 'malignant' or 'benign'
train, test, train_names, test_names = train_test_split(data.data, names, random_state=0)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, train_names)

plan = hec.compile(model, train)  # the training data calibrates
client = hec.Client(plan)
server = hec.Server(plan, client.evaluation_keys())

reply = server.run(client.encrypt(test[0]))  # the server sees neither measurements nor result
label, shares = client.decrypt(reply).values()
classes = plan.client.outputs[1].classes

print(f"predicted {label[0]}, in truth {test_names[0]}")
print(f"probabilities of {classes}: {shares[0].round(4)}; in the clear:", end=" ")
print(model.predict_proba(test[:1])[0].round(4))
