// All of the vector registers keep what they have while the kernel encrypts and decrypts this program's files.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned char in[16][32], out[16][32], page[1 << 16];

#define EACH(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
#define LOAD(n) "vmovdqu " #n "*32(%[in]),%%ymm" #n ";"
#define STORE(n) "vmovdqu %%ymm" #n "," #n "*32(%[out]);"
#define NAME(n) "xmm" #n,

static void call(const char *what, long nr, long a, long b, long c, long d) {
    static int turn;
    long ret = nr;
    register long r10 __asm__("r10") = d;
    turn++;
    for (int i = 0; i < 512; i++)
        in[i / 32][i % 32] = (unsigned char)(turn * 31 + i * 7 + 1);
    memset(out, 0, sizeof out);
    __asm__ volatile(EACH(LOAD) "syscall;" EACH(STORE) "vzeroupper"
                     : "+a"(ret)
                     : [in] "r"(in), [out] "r"(out), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : EACH(NAME) "rcx", "r11", "memory");
    if (ret < 0 || memcmp(in, out, sizeof in))
        printf("not so: %s returns %ld and changes registers\n", what, ret);
}

int main(void) {
    int fd = open("/tmp/vectors", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < 40; i++) {
        memset(page, i + 1, sizeof page);
        call("write", SYS_pwrite64, fd, (long)page, sizeof page, (long)i * (long)sizeof page);
        if (i % 4 == 0)
            call("fsync", SYS_fsync, fd, 0, 0, 0);
        call("read", SYS_pread64, fd, (long)page, sizeof page, 0);
    }
    call("sync", SYS_sync, 0, 0, 0, 0);
    call("ftruncate", SYS_ftruncate, fd, 12345, 0, 0);
    call("unlink", SYS_unlink, (long)"/tmp/vectors", 0, 0, 0);
    call("close", SYS_close, fd, 0, 0, 0);
    puts("done");
    return 0;
}
