# Runs inside a cu130 image without a GPU: loads each library of sgl_kernel, in a process of its own, against a generated stand-in for
# NVIDIA's driver library. That shows that its symbols match torch and the CUDA libraries of the lock; no kernel runs.
set -eu
folder=$(/opt/bakeoff/bin/python -c 'import importlib.util; print(importlib.util.find_spec("sgl_kernel").submodule_search_locations[0])')
libraries=$(find "$folder" -name '*.abi3.so' | sort)
[ -n "$libraries" ]

# Every driver function that they, or torch's libraries, import; each reports that there is no device (CUDA_ERROR_NO_DEVICE = 100).
site=$(dirname "$folder")
find "$folder" "$site/torch/lib" -name '*.so*' -exec nm --dynamic --undefined-only {} + 2> /dev/null |
    awk '$1 == "U" && $2 ~ /^cu[A-Z][A-Za-z0-9_]*$/ && $2 !~ /^cu(BLAS|DNN|SPARSE|SOLVER|FFT|RAND)/ { sub(/@.*/, "", $2); print $2 }' | sort -u > /tmp/symbols
sed 's/.*/int &(void) { return 100; }/' /tmp/symbols > /tmp/stub.c
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o /tmp/libcuda.so.1 /tmp/stub.c

for library in $libraries; do
    LD_LIBRARY_PATH=/tmp /opt/bakeoff/bin/python -c 'import ctypes, sys, torch; ctypes.CDLL(sys.argv[1])' "$library"
    echo "loaded ${library#"$site"/} ($(wc -l < /tmp/symbols) driver symbols)"
done
