#!/bin/bash -eu
# OSS-Fuzz and ClusterFuzzLite: a program and a seed corpus for each target.
pip3 install "$SRC/hvmctx[test]"
python3 "$SRC/hvmctx/fuzz/seed_corpus.py" "$WORK/seeds"
for target in $(ls "$WORK/seeds"); do
    cp "$SRC/hvmctx/fuzz/fuzz_target.py" "$WORK/fuzz_$target.py"
    compile_python_fuzzer "$WORK/fuzz_$target.py"
    cp "$SRC/hvmctx/fuzz/hvmctx.dict" "$OUT/fuzz_$target.dict"
    (cd "$WORK/seeds/$target" && zip -q "$OUT/fuzz_${target}_seed_corpus.zip" ./*)
done
