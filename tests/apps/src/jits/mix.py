"""Integers, floats, strings, dictionaries, objects and generators in loops that PyPy compiles; threads among them."""

import json
import re
import sys
import threading

seed = int(sys.argv[1])


def draw():
    global seed
    seed = seed * 16807 % 2147483647
    return seed


def queens(n, row=0, columns=0, left=0, right=0):
    if row == n:
        return 1
    free = [1 << i for i in range(n)]
    return sum(
        queens(n, row + 1, columns | a, (left | a) << 1, (right | a) >> 1)
        for a in free
        if not (columns & a or left & a or right & a)
    )


class Point:
    def __init__(self, x):
        self.x = x

    def next(self, k):
        return Point((self.x * k + 1) % 1000003)


def points(n):
    p = Point(seed % 1000)
    for i in range(n):
        p = p.next(i)
    return p.x


counts = {}
for _ in range(60000):
    key = str(draw() % 500)
    counts[key] = counts.get(key, 0) + 1
text = json.dumps(counts, sort_keys=True)
print(queens(7), points(300000), len(text), sum(json.loads(text).values()))
print(len(re.findall(r'"1\d*": (\d+)', text)), sum(x * 0.5 for x in range(200000)))
results = [0] * 3


def work(n):
    results[n] = sum(i * i % (n + 7) for i in range(150000))


threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(results)
for k in range(40):  # each is compiled anew
    space = {}
    exec(f"def f(n):\n s = 0\n for i in range(n): s = (s * 3 + i * {k + 1}) % 65521\n return s", space)
    print(space["f"](3000), end=" ")
print()
