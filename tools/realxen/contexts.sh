# In dom0: the hypervisor's answers to contexts against the model's, COUNT in each of RUNS runs.
export PYTHONPATH=/share/in:$PYTHONPATH PYTHONDONTWRITEBYTECODE=1
cd /root
for seed in $(seq 1 ${RUNS:-5}); do
  python3 -m hvmctx fuzz diff --kind context --count ${COUNT:-4000} --against lab --seed $seed -o disagreements 2>&1
  cp -r disagreements /share/out/ 2>/dev/null
done
xl list
