"""A CPU-bound Python job: dictionaries, strings, integers, sorting, method calls."""


class Counter:
    """Counts words the slow way, through method calls."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, word: str) -> None:
        """One more of this word."""
        self.counts[word] = self.counts.get(word, 0) + 1


def main() -> None:
    """Prints a summary that depends on all the work."""
    seed, counter = 42, Counter()
    for _ in range(6_000_000):
        seed = (seed * 1103515245 + 12345) % 2147483648
        counter.add(f"w{seed % 5000}")
    primes = [n for n in range(2, 90_000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    ordered = sorted(counter.counts.items(), key=lambda item: (-item[1], item[0]))
    print(len(primes), len(ordered), ordered[0][1] > 0)


main()
