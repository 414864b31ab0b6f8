#!/bin/bash -eu
# ClusterFuzzLite and OSS-Fuzz run this in the image of Dockerfile: a program, a dictionary and a
# seed corpus for each target go to $OUT.
pip3 install "$SRC/hvmctx"
python3 "$SRC/hvmctx/fuzz/seed_corpus.py" "$WORK/seeds"
for target in $(ls "$WORK/seeds"); do
    cp "$SRC/hvmctx/fuzz/fuzz_target.py" "$WORK/fuzz_$target.py"
    compile_python_fuzzer "$WORK/fuzz_$target.py"
    cp "$SRC/hvmctx/fuzz/hvmctx.dict" "$OUT/fuzz_$target.dict"
    (cd "$WORK/seeds/$target" && zip -q "$OUT/fuzz_${target}_seed_corpus.zip" ./*)
done
