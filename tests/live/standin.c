/* A stand-in for Xen's libraries over one made-up domain, 7, whose state lies in the file
 * $STAND_IN, made by tests/builders/standin.py: the tests look into it from outside.
 *
 * -DOLD gives the signatures that releases up to 4.6 have (or, for the CPU policies, up to 4.15).
 * $STAND_IN_FAIL is NAME:ERRNO: that function fails. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 96u
#define SPECIAL 0xfeu /* and the next: pages that have no memory below them */
#define P2M 0x100u
#define DOMAIN 7

struct state {
    uint32_t flags;       /* as in xc_domaininfo_t: 2 HVM, 4 shut down, 8 paused, 0x100 HAP */
    uint32_t reason;      /* of the shutdown */
    uint32_t logging;
    uint32_t maps;        /* calls of map: the clock by which the guest writes */
    uint32_t writes;      /* whether it writes at all while it runs */
    uint32_t answers;     /* whether it answers a request to suspend */
    uint32_t callback;    /* HVM parameter 0: it has PV drivers */
    uint32_t unmappable;  /* a pfn, 0 for none */
    uint32_t resumed, loaded, released, version, slow;
    uint32_t logged;      /* bytes of the log */
    uint32_t context_size;
    char control[64], type[16];
    uint8_t dirty[P2M / 8];
    char log[8192];
    uint8_t context[65536];
    uint8_t memory[PAGES + 2][4096];
};
static struct state *state;
static int handle, memory_handle, store_handle, policy_handle;

static int fails(const char *name)
{
    const char *told = getenv("STAND_IN_FAIL");
    size_t length = strlen(name);
    if (!told || strncmp(told, name, length) || told[length] != ':') return 0;
    errno = atoi(told + length + 1);
    return 1;
}
static int other(void *xch, uint32_t domid, const char *name)
{
    if (fails(name)) return 1;
    if (xch != &handle) { errno = EFAULT; return 1; }
    if (domid != DOMAIN) { errno = ESRCH; return 1; }
    return 0;
}
static uint8_t *page(uint64_t pfn)
{
    if (pfn < PAGES) return state->memory[pfn];
    if (pfn - SPECIAL < 2) return state->memory[PAGES + pfn - SPECIAL];
    return NULL;
}
static void note(const char *text)
{
    size_t length = strlen(text);
    if (state->logged + length < sizeof(state->log)) {
        memcpy(state->log + state->logged, text, length);
        state->logged += length;
    }
}
void *xc_interface_open(void *logger, void *dombuild, unsigned flags)
{
    int fd;
    if (fails("xc_interface_open")) return NULL;
    fd = open(getenv("STAND_IN"), O_RDWR);
    if (fd < 0) return NULL;
    state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return state == MAP_FAILED ? NULL : &handle;
}
int xc_interface_close(void *xch) { return xch == &handle ? 0 : -1; }
int xc_version(void *xch, int cmd, void *arg)
{
    static const char *const texts[] = {
        [1] = ".7", [3] = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_64", [4] = "",
        [9] = "console=com1 dom0_mem=1536M",
    };
    if (fails("xc_version")) return -1;
    if (cmd == 0) return state->version;
    if (cmd < 10 && texts[cmd]) { strcpy(arg, texts[cmd]); return 0; }
    if (cmd == 10) { /* room, then bytes */
        if (*(uint32_t *)arg < 3) { errno = ENOBUFS; return -1; }
        memcpy((char *)arg + 4, "\xab\xcd\xef", 3);
        return 3;
    }
    errno = ENOSYS;
    return -1;
}
int xc_physinfo(void *xch, void *info)
{
    uint32_t *words = info;
    if (fails("xc_physinfo")) return -1;
    memset(info, 0, 104);
    words[0] = 1; words[1] = 2; words[2] = 2; words[6] = 2596128;
    words[7] = 1 | 2 | 8; /* hvm, pv, hap */
    return 0;
}
int xc_readconsolering(void *xch, char *buffer, unsigned *count, int clear, int incremental,
                       uint32_t *index)
{
    uint32_t left;
    if (fails("xc_readconsolering")) return -1;
    left = state->logged - *index;
    if (left > *count) left = *count;
    memcpy(buffer, state->log + *index, left);
    *index += left;
    *count = left;
    return 0;
}
int xc_domain_getinfolist(void *xch, uint32_t first, unsigned most, void *info)
{
    uint32_t *words = info;
    if (fails("xc_domain_getinfolist")) return -1;
    memset(info, 0, 120);
    if (first > DOMAIN) return 0;
    words[0] = DOMAIN;
    words[1] = state->flags | state->reason << 16;
    words[16] = 2;
    words[17] = 1;
    return 1;
}
int xc_domain_pause(void *xch, uint32_t domid)
{
    if (other(xch, domid, "xc_domain_pause")) return -1;
    state->flags |= 8;
    return 0;
}
int xc_domain_unpause(void *xch, uint32_t domid)
{
    if (other(xch, domid, "xc_domain_unpause")) return -1;
    if (!(state->flags & 8)) { errno = EINVAL; return -1; }
    state->flags &= ~8u;
    return 0;
}
int xc_domain_shutdown(void *xch, uint32_t domid, int reason)
{
    if (other(xch, domid, "xc_domain_shutdown")) return -1;
    state->flags |= 4;
    state->reason = reason;
    return 0;
}
int xc_domain_resume(void *xch, uint32_t domid, int fast)
{
    if (other(xch, domid, "xc_domain_resume")) return -1;
    if (!(state->flags & 4)) { errno = EINVAL; return -1; }
    state->flags &= ~4u;
    state->reason = 0;
    state->resumed++;
    return 0;
}
int xc_domain_hvm_getcontext(void *xch, uint32_t domid, uint8_t *buffer, uint32_t size)
{
    if (other(xch, domid, "xc_domain_hvm_getcontext")) return -1;
    if (getenv("STAND_IN_HUGE")) return 0x7fffffff;
    if (!buffer) return state->context_size;
    if (size < state->context_size) { errno = ENOSPC; return -1; }
    memcpy(buffer, state->context, state->context_size);
    return state->context_size;
}
/* Takes what has a header and an END; and, so that the model is not always right, nothing whose
 * last byte but 8 is 0x5a. */
int xc_domain_hvm_setcontext(void *xch, uint32_t domid, uint8_t *buffer, uint32_t size)
{
    if (other(xch, domid, "xc_domain_hvm_setcontext")) return -1;
    state->loaded++;
    if (getenv("STAND_IN_CRASH") && state->loaded == (uint32_t)atoi(getenv("STAND_IN_CRASH")))
        _exit(99); /* the machine has gone */
    if (size < 8 || buffer[0] != 1 || size == 4096) {
        note("(XEN) HVM7 restore: no, not this\n");
        errno = EINVAL;
        return -1;
    }
    note("(XEN) HVM7 restore: CPU 0\n");
    return 0;
}
int xc_get_pfn_type_batch(void *xch, uint32_t domid, unsigned count, uint64_t *batch)
{
    unsigned i;
    if (other(xch, domid, "xc_get_pfn_type_batch")) return -1;
    for (i = 0; i < count; i++) batch[i] = page(batch[i]) ? 0 : 0xf0000000u;
    return 0;
}
int xc_hvm_param_get(void *xch, uint32_t domid, uint32_t index, uint64_t *value)
{
    if (other(xch, domid, "xc_hvm_param_get")) return -1;
    if (index == 38) { errno = EINVAL; return -1; }
    *value = index == 0 ? state->callback : index == 1 ? SPECIAL : index == 17 ? SPECIAL + 1 : 0;
    return 0;
}
int xc_domain_get_tsc_info(void *xch, uint32_t domid, uint32_t *mode, uint64_t *nsec,
                           uint32_t *khz, uint32_t *incarnation)
{
    if (other(xch, domid, "xc_domain_get_tsc_info")) return -1;
    *mode = 0; *nsec = 1234; *khz = 2596128; *incarnation = 1;
    return 0;
}
struct buffer { void *hbuf; };
void *xc__hypercall_buffer_alloc_pages(void *xch, struct buffer *b, int pages)
{
    return b->hbuf = calloc(pages, 4096);
}
void xc__hypercall_buffer_free_pages(void *xch, struct buffer *b, int pages) { free(b->hbuf); }

static int control(unsigned op)
{
    if (op == 0) {
        if (!state->logging) { errno = EINVAL; return -1; }
        state->logging = 0;
    } else {
        if (state->logging) { errno = EEXIST; return -1; }
        state->logging = 1;
        memset(state->dirty, 0, sizeof(state->dirty));
    }
    return 0;
}
static long fetch(struct buffer *b, unsigned long pages, uint32_t *counts)
{
    unsigned i, n = 0;
    if (!state->logging) { errno = EINVAL; return -1; }
    for (i = 0; i < P2M; i++) n += state->dirty[i / 8] >> i % 8 & 1;
    memcpy(b->hbuf, state->dirty, sizeof(state->dirty));
    memset(state->dirty, 0, sizeof(state->dirty));
    counts[1] = n;
    return pages;
}
static void *map(uint32_t domid, size_t count, const uint64_t *pfns, int *errors)
{
    size_t i, good = 0;
    uint8_t *to;
    if (state->writes && !(state->flags & 12)) { /* meanwhile the guest runs */
        for (i = 0; i < 8; i++) {
            uint64_t pfn = (state->maps * 8 + i) % PAGES;
            ++*(uint32_t *)state->memory[pfn];
            if (state->logging) state->dirty[pfn / 8] |= 1 << pfn % 8;
        }
    }
    state->maps++;
    if (state->slow) usleep(state->slow);
    to = mmap(NULL, count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (i = 0; i < count; i++) {
        uint8_t *from = page(pfns[i]);
        errors[i] = 0;
        if (!from || (state->unmappable && pfns[i] == state->unmappable)) { errors[i] = EINVAL; continue; }
        memcpy(to + i * 4096, from, 4096);
        good++;
    }
    if (good) return to;
    munmap(to, count * 4096);
    errno = EINVAL;
    return NULL;
}
static const uint32_t leaves[2][6] = {
    { 0, 0xffffffff, 0xd, 0x68747541, 0x444d4163, 0x69746e65 },
    { 0x80000008, 0xffffffff, 0x3028, 0, 0, 0 },
};
static const struct { uint32_t index, flags; uint64_t value; } msrs[1] = { { 0xce, 0, 0 } };
static void serialise(void *l, uint32_t *nl, void *m, uint32_t *nm)
{
    memcpy(l, leaves, sizeof(leaves)); *nl = 2;
    memcpy(m, msrs, sizeof(msrs)); *nm = 1;
}
#ifdef OLD
int xc_domain_maximum_gpfn(void *xch, uint16_t domid, uint64_t *gpfn)
{
    if (other(xch, domid, "xc_domain_maximum_gpfn")) return -1;
    *gpfn = P2M - 1;
    return 0;
}
int xc_shadow_control(void *xch, uint32_t domid, unsigned op, struct buffer *b,
                      unsigned long pages, unsigned long *mb, uint32_t mode, uint32_t *counts)
{
    if (other(xch, domid, "xc_shadow_control")) return -1;
    return op == 11 ? fetch(b, pages, counts) : control(op);
}
void *xc_map_foreign_bulk(void *xch, uint32_t domid, int prot, const uint64_t *pfns, int *errors,
                          unsigned count)
{
    if (other(xch, domid, "xc_map_foreign_bulk")) return NULL;
    return map(domid, count, pfns, errors);
}
int xc_get_cpu_policy_size(void *xch, uint32_t *l, uint32_t *m) { *l = 2; *m = 1; return 0; }
int xc_get_domain_cpu_policy(void *xch, uint32_t domid, uint32_t *nl, void *l, uint32_t *nm, void *m)
{
    if (other(xch, domid, "xc_get_domain_cpu_policy")) return -1;
    serialise(l, nl, m, nm);
    return 0;
}
#else
int xc_domain_maximum_gpfn(void *xch, uint32_t domid, uint64_t *gpfn)
{
    if (other(xch, domid, "xc_domain_maximum_gpfn")) return -1;
    *gpfn = P2M - 1;
    return 0;
}
int xc_shadow_control(void *xch, uint32_t domid, unsigned op, unsigned *mb, unsigned mode)
{
    if (other(xch, domid, "xc_shadow_control")) return -1;
    if (op && mode != 4) { errno = EINVAL; return -1; }
    return control(op);
}
long long xc_logdirty_control(void *xch, uint32_t domid, unsigned op, struct buffer *b,
                              unsigned long pages, unsigned mode, uint32_t *counts)
{
    if (other(xch, domid, "xc_logdirty_control")) return -1;
    return fetch(b, pages, counts);
}
void *xenforeignmemory_open(void *logger, unsigned flags) { return &memory_handle; }
int xenforeignmemory_close(void *f) { return 0; }
void *xenforeignmemory_map(void *f, uint32_t domid, int prot, size_t count, const uint64_t *pfns,
                           int *errors)
{
    if (fails("xenforeignmemory_map")) return NULL;
    return map(domid, count, pfns, errors);
}
int xenforeignmemory_unmap(void *f, void *address, size_t count)
{
    return munmap(address, count * 4096);
}
void *xc_cpu_policy_init(void) { return &policy_handle; }
void xc_cpu_policy_destroy(void *policy) { state->released++; }
int xc_cpu_policy_get_size(void *xch, uint32_t *l, uint32_t *m) { *l = 120; *m = 2; return 0; }
int xc_cpu_policy_get_system(void *xch, unsigned number, void *policy)
{
    return fails("xc_cpu_policy_get_system") ? -1 : 0;
}
int xc_cpu_policy_get_domain(void *xch, uint32_t domid, void *policy)
{
    return other(xch, domid, "xc_cpu_policy_get_domain") ? -1 : 0;
}
int xc_cpu_policy_serialise(void *xch, void *policy, void *l, uint32_t *nl, void *m, uint32_t *nm)
{
    serialise(l, nl, m, nm);
    return 0;
}
#endif
void *xs_open(unsigned long flags) { return fails("xs_open") ? NULL : &store_handle; }
void xs_close(void *h) { }
void *xs_read(void *h, uint32_t t, const char *path, unsigned *length)
{
    const char *value = NULL;
    if (!strcmp(path, "/local/domain/7/control/shutdown")) value = state->control;
    if (!strcmp(path, "/libxl/7/type")) value = state->type;
    if (strstr(path, "/physmap/f000/")) value = strrchr(path, '/') + 1;
    if (!value) { errno = ENOENT; return NULL; }
    *length = strlen(value);
    return strdup(value);
}
char **xs_directory(void *h, uint32_t t, const char *path, unsigned *count)
{
    char **names;
    if (!getenv("STAND_IN_PHYSMAP")) { errno = ENOENT; return NULL; }
    names = malloc(sizeof(char *) + 8);
    names[0] = (char *)(names + 1);
    strcpy(names[0], "f000");
    *count = 1;
    return names;
}
bool xs_write(void *h, uint32_t t, const char *path, const void *data, unsigned length)
{
    if (fails("xs_write")) return false;
    memset(state->control, 0, sizeof(state->control));
    memcpy(state->control, data, length);
    if (state->answers && !strcmp(state->control, "suspend")) {
        state->control[0] = 0;
        if (state->answers == 1) { state->flags |= 4; state->reason = 2; }
        if (state->answers == 3) { state->flags |= 4; state->reason = 3; }
    }
    return true;
}
uint32_t xs_transaction_start(void *h) { return 1; }
bool xs_transaction_end(void *h, uint32_t t, bool abort) { return true; }
bool xs_resume_domain(void *h, unsigned domid) { return true; }
