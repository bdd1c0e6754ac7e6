"""C calls back into Python through closures that libffi makes at run time (ctypes, and cffi's)."""

import ctypes
import sys
import threading

libc = ctypes.CDLL(None)
compare_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
seed = int(sys.argv[1])
numbers = [(seed * (i + 1) * 7919) % 10007 for i in range(300)]


def sort_by(key):
    array = (ctypes.c_int * len(numbers))(*numbers)
    compare = compare_type(lambda a, b: key(a[0]) - key(b[0]))
    libc.qsort(array, len(array), ctypes.sizeof(ctypes.c_int), compare)
    return list(array)


assert sort_by(lambda x: x) == sorted(numbers)
for modulus in range(2, 60):  # as many closures that come and go
    assert [x % modulus for x in sort_by(lambda x, m=modulus: x % m)] == sorted(x % modulus for x in numbers)
kept = [ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(lambda x, k=k: x * k) for k in range(400)]
print(sum(f(n) for n, f in enumerate(kept)))
failures = []


def in_thread(n):
    try:
        assert sort_by(lambda x: -x) == sorted(numbers, reverse=True)
    except AssertionError as e:
        failures.append(e)


threads = [threading.Thread(target=in_thread, args=(n,)) for n in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(len(failures))

if "cffi" in sys.argv:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const void *, const void *));")
    c = ffi.dlopen(None)

    @ffi.callback("int(const void *, const void *)")
    def compare(a, b):
        return ffi.cast("int *", a)[0] - ffi.cast("int *", b)[0]

    array = ffi.new("int[]", numbers)
    c.qsort(array, len(numbers), 4, compare)
    print(list(array) == sorted(numbers))
