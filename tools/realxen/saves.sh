# In dom0, for a harness that puts its arguments into /share/in: the package, this folder, the guests.
export PYTHONPATH=/share/in:$PYTHONPATH PYTHONDONTWRITEBYTECODE=1
mkdir -p /tmp/guests; cp /share/in/guests/* /tmp/guests/
python3 /share/in/realxen/saves.py /tmp/guests ${PARTS:-still live kill} 2>&1
