/* Spends three quarters of its time in `hot` and a quarter in `warm`. */
#include <stdint.h>

#define WORK(name, times)                                                                                              \
    __attribute__((noinline)) uint64_t name(uint64_t s) {                                                              \
        for (uint64_t i = 0; i < (times); i++)                                                                         \
            s = s * 6364136223846793005u + i;                                                                          \
        return s;                                                                                                      \
    }
WORK(hot, 3000000)
WORK(warm, 1000000)

int main(void) {
    uint64_t s = 1;
    for (int i = 0; i < 200; i++)
        s = hot(s) ^ warm(s) ^ i;
    return s == 42;
}
