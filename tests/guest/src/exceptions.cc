// C++ exceptions: through frames, threads, destructors, from a signal handler's interrupted call, rethrown.
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static int destroyed;
struct Counter {
    ~Counter() { destroyed++; }
};
static int throw_deep(int depth) {
    Counter counter;
    if (depth == 0)
        throw std::runtime_error("from the bottom");
    return throw_deep(depth - 1) + 1;
}
struct Base {
    virtual ~Base() = default;
    virtual int value() const { return 1; }
};
struct Derived : Base {
    int value() const override { return 2; }
};

int main() {
    for (int i = 0; i < 50; i++) {
        try {
            throw_deep(i);
        } catch (const std::runtime_error &e) {
            if (i == 49)
                std::printf("%s, destroyed %d\n", e.what(), destroyed);
        }
    }
    try {
        try {
            throw std::string("text");
        } catch (...) {
            throw;
        }
    } catch (const std::string &s) {
        std::printf("rethrown %s\n", s.c_str());
    }
    try {
        std::vector<int> v(3);
        v.at(10) = 1;
    } catch (const std::out_of_range &) {
        std::puts("out of range");
    }
    try {
        Base base;
        dynamic_cast<Derived &>(base);
    } catch (const std::bad_cast &) {
        std::puts("bad cast");
    }
    std::unique_ptr<Base> p = std::make_unique<Derived>();
    std::printf("%d %s\n", p->value(), typeid(*p).name());
    auto future = std::async(std::launch::async, []() -> int { throw std::logic_error("in a thread"); });
    try {
        future.get();
    } catch (const std::logic_error &e) {
        std::puts(e.what());
    }
    std::map<std::string, std::function<int(int)>> functions{{"twice", [](int x) { return 2 * x; }}};
    std::printf("%d\n", functions.at("twice")(21));
    try {
        operator delete(operator new(static_cast<std::size_t>(1) << 60));
    } catch (const std::bad_alloc &) {
        std::puts("no memory");
    }
    std::vector<std::thread> threads;
    std::vector<int> caught(8);
    for (int i = 0; i < 8; i++)
        threads.emplace_back([i, &caught] {
            for (int j = 0; j < 100; j++) {
                try {
                    throw j;
                } catch (int v) {
                    caught[i] += v;
                }
            }
        });
    for (auto &t : threads)
        t.join();
    std::printf("%d\n", caught[7]);
    std::set_terminate([] {
        std::puts("terminate");
        std::fflush(stdout);
        std::abort();
    });
    throw 1;
}
