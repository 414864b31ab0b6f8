/*
 * Loader and writer of the never merged VMPORT patch, naive on purpose: the loader trusts every
 * length that the record claims. Written from the format's description. It is the second opinion
 * on the model in hvmctx/restore/vmport.py, and on the writer in hvmctx/context/vmport.py.
 *
 * Compiled with AddressSanitizer, every buffer an allocation of its own, it aborts where the
 * loader would leave its memory. Compiled with QUERY defined as well, it asks the sanitizer before
 * each step instead of stepping and being killed: no process for each record, a hundred times as
 * fast, and it can say where.
 *
 * Usage: vmport CHANS BKTS KEY VAL JUMBOVAL NKEYS NJUMBO VERSION MAXBODY < cases
 *
 * Standard input: u32 size, over, memory, room; `over` bytes, a record to load before the one that
 * counts; `size` bytes, the record (descriptor, body, whatever follows); again and again. `memory`
 * is for how many slots there is memory, `room` what the writer has of the context afterwards.
 * Standard output, a line for each:
 *   ok CURSOR SLOTS JUMBO_SLOTS STATE SAVED   STATE in hex (see print_state), SAVED too, or "full"
 *   errno NAME CURSOR
 *   violation ASKED LIMIT SITE                without QUERY only "violation"
 */
#include <sanitizer/asan_interface.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t chans, buckets, key_max, value_max, jumbo_value_max, keys, jumbo_keys;
static uint32_t version, body_max;

static uint32_t stride(void) { return (32 + 4 * (buckets + 1) + 7) / 8 * 8; }
static uint32_t fixed_size(void) { return 32 + chans * stride(); }

static struct { uint8_t *place; size_t size; } made[100000];
static unsigned made_count;

/* Zeroed, and what follows is poisoned. The allocator's own red zones are not enough: after the
 * last of its blocks nothing is poisoned, and packed_data begin that far behind a short body. */
static void *get(size_t count, size_t size)
{
    uint8_t *place;

    size *= count;
    place = calloc(1, size + fixed_size());
    __asan_poison_memory_region(place + size, fixed_size());
    made[made_count].place = place;
    made[made_count++].size = size;
    return place;
}

#ifdef QUERY
#include <setjmp.h>
static jmp_buf violated;
static struct { const char *kind, *site, *end; uint64_t asked, limit; } violation;
#define TOUCH(place, count, ...) \
    do { \
        if ((count) != 0 && __asan_region_is_poisoned((void *)(place), (count))) \
            violate(__VA_ARGS__); \
    } while (0)

static void violate(const char *kind, const char *site, const char *end, uint64_t asked,
                    uint64_t limit)
{
    violation.kind = kind;
    violation.site = site;
    violation.end = end;
    violation.asked = asked;
    violation.limit = limit;
    longjmp(violated, 1);
}

static void drop_all(void)
{
    while (made_count) {
        made_count--;
        __asan_unpoison_memory_region(made[made_count].place + made[made_count].size,
                                      fixed_size());
        free(made[made_count].place);
    }
}
#else
#define TOUCH(place, count, ...) do { } while (0)
#endif

#define GUESTINFO 0
#define JUMBO 1

/* As in a record, and copied whole, the padding with it. */
struct channel_control {
    uint64_t active_time;
    uint32_t chan_id, cookie, proto_num;
    uint16_t send_len, send_idx;
    uint8_t jumbo, recv_read, recv_write;
};
struct bucket_control { uint16_t recv_len, recv_idx; };

struct bucket { struct bucket_control ctl; uint32_t words; uint8_t *buf; };
struct channel { struct channel_control ctl; uint32_t words; uint8_t *buf; struct bucket *bucket; };
struct slot { uint8_t key_len, *key, *value; uint16_t val_len; };

static struct state {
    uint64_t ping_time;
    uint32_t open_cookie, used[2];
    struct channel *chan;               /* the last of its buckets is the jumbo one */
    struct slot **table[2];
} state;

static struct { const uint8_t *body, *cursor; uint32_t length, left, memory; } input;

static uint16_t get16(const uint8_t *from) { uint16_t v; memcpy(&v, from, 2); return v; }
static uint32_t get32(const uint8_t *from) { uint32_t v; memcpy(&v, from, 4); return v; }
static uint64_t get64(const uint8_t *from) { uint64_t v; memcpy(&v, from, 8); return v; }

static void new_state(void)
{
    uint32_t i, j;

    memset(&state, 0, sizeof(state));
    state.chan = get(chans, sizeof(*state.chan));
    for (i = 0; i < chans; i++) {
        struct channel *channel = &state.chan[i];

        channel->words = (22 + key_max + value_max + 3) / 4;
        channel->buf = get(channel->words + 1, 4);
        channel->bucket = get(buckets + 1, sizeof(struct bucket));
        for (j = 0; j <= buckets; j++) {
            struct bucket *bucket = &channel->bucket[j];

            bucket->words = (2 + (j < buckets ? value_max : jumbo_value_max) + 3) / 4;
            bucket->buf = get(bucket->words + 1, 4);
        }
    }
    state.table[GUESTINFO] = get(keys, sizeof(struct slot *));
    state.table[JUMBO] = get(jumbo_keys, sizeof(struct slot *));
}

/* Where in the body a read of that many bytes would end. */
#define END_OF(place, count) ((uint64_t)((place) - input.body) + (count)), input.length

/* Copy from packed_data to a place with that much room. */
static void take(uint8_t *to, uint32_t count, uint32_t room, const char *kind, const char *site)
{
    (void)room, (void)kind, (void)site;
    TOUCH(to, count, kind, site, "", count, room);
    TOUCH(input.cursor, count, kind, site, " source", END_OF(input.cursor, count));
    if (count)
        memcpy(to, input.cursor, count);
    input.cursor += count;
}

static void load_channel(struct channel *channel, const uint8_t *control)
{
    uint32_t j;

    TOUCH(control, sizeof(channel->ctl), "", "fixed part", "", fixed_size(), input.length);
    channel->ctl = *(const struct channel_control *)control;
    take(channel->buf, channel->ctl.send_len, 4 * (channel->words + 1), "", "send_buf");
    control += sizeof(channel->ctl);
    for (j = 0; j <= buckets; j++, control += sizeof(struct bucket_control)) {
        struct bucket *bucket = &channel->bucket[j];

        TOUCH(control, sizeof(bucket->ctl), "", "fixed part", "", fixed_size(), input.length);
        bucket->ctl = *(const struct bucket_control *)control;
        take(bucket->buf, bucket->ctl.recv_len, 4 * (bucket->words + 1),
             j < buckets ? "" : "jumbo ", "recv_buf");
    }
}

/* Into a slot, the next entry. */
static void load_entry(struct slot *slot, int jumbo)
{
    const char *kind = jumbo ? "guestinfo_jumbo " : "guestinfo ";
    const uint8_t *p = input.cursor;
    uint32_t key_len, val_len;

    (void)kind;
    TOUCH(p, 1, kind, "head", "", END_OF(p, 1));
    key_len = *p++;
    TOUCH(p, jumbo ? 2 : 1, kind, "head", "", END_OF(p, jumbo ? 2 : 1));
    val_len = jumbo ? get16(p) : *p;
    p += jumbo ? 2 : 1;
    input.left -= jumbo ? 3 : 2;
    input.cursor = p;
    if (input.left < key_len + val_len || !key_len)
        return;
    slot->key_len = key_len;
    slot->val_len = val_len;
    take(slot->key, key_len, key_max, kind, "key_data");
    take(slot->value, val_len, jumbo ? jumbo_value_max : value_max, kind, "val_data");
    input.left -= key_len + val_len;
}

/* One of the two loops over guestinfo entries. 0 where there is no memory for a slot. */
static int load_entries(uint32_t used, int jumbo)
{
    struct slot **table = state.table[jumbo];
    uint32_t count = used + (jumbo ? 1 : 5), least = jumbo ? 2 : 10, i;

    if (count < least)
        count = least;
    for (i = 0; i < count; i++) {
        TOUCH(&table[i], sizeof(*table), jumbo ? "guestinfo_jumbo " : "guestinfo ", "slot", "", i,
              jumbo ? jumbo_keys : keys);
        if (!table[i]) {
            if (!input.memory)
                return 0;
            input.memory--;
            table[i] = get(1, sizeof(**table));
            table[i]->key = get(1, key_max);
            table[i]->value = get(1, jumbo ? jumbo_value_max : value_max);
        }
        if (i < used && input.left > 0)
            load_entry(table[i], jumbo);
    }
    state.used[jumbo] = count;
    return 1;
}

/* The errno, or NULL where the state is loaded; `cursor` is the context's then. */
static const char *load(const uint8_t *data, uint32_t size, uint32_t *cursor)
{
    uint8_t *body;
    uint32_t i;

    *cursor = 0;
    if (size < 8)
        return "E2BIG";
    input.length = get32(data + 4);
    if ((uint64_t)input.length + 8 > size)
        return "EFBIG";
    if (get16(data) != 21 || input.length > body_max)
        return "ESRCH";
    *cursor = 8 + input.length;
    body = get(1, input.length);
    memcpy(body, data + 8, input.length);
    input.body = body;
    TOUCH(body, 4, "", "version", "", 4, input.length);
    if (get32(body) != version)
        return "EINVAL";
    TOUCH(body, 28, "", "fixed part", "", fixed_size(), input.length);
    input.left = get32(body + 4);
    state.ping_time = get64(body + 8);
    state.open_cookie = get32(body + 16);
    input.cursor = body + fixed_size();
    for (i = 0; i < chans; i++)
        load_channel(&state.chan[i], body + 32 + i * stride());
    for (i = 0; i < 2; i++)
        if (!load_entries(get32(body + 20 + 4 * i), i))
            return "ENOMEM";
    return NULL;
}

static void put16(uint8_t *to, uint16_t value) { memcpy(to, &value, 2); }
static void put32(uint8_t *to, uint32_t value) { memcpy(to, &value, 4); }

static uint8_t *append(uint8_t *to, const void *from, uint32_t count)
{
    memcpy(to, from, count);
    return to + count;
}

static uint8_t *append_buffer(uint8_t *to, const uint8_t *buf, uint32_t count, uint32_t words)
{
    return append(to, buf, count < 4 * words ? count : 4 * words);
}

/* The record, descriptor included, into a place for the longest one. Returns where it ends. */
static uint8_t *save(uint8_t *data)
{
    uint8_t *body = data + 8, *p = body + fixed_size(), *entries;
    uint32_t i, j, kind;

    put32(body, version);
    memcpy(body + 8, &state.ping_time, 8);
    put32(body + 16, state.open_cookie);
    for (i = 0; i < chans; i++) {
        struct channel *channel = &state.chan[i];
        uint8_t *control = body + 32 + i * stride();

        *(struct channel_control *)control = channel->ctl;
        control += sizeof(channel->ctl);
        p = append_buffer(p, channel->buf, channel->ctl.send_len, channel->words);
        for (j = 0; j <= buckets; j++, control += sizeof(struct bucket_control)) {
            struct bucket *bucket = &channel->bucket[j];

            *(struct bucket_control *)control = bucket->ctl;
            p = append_buffer(p, bucket->buf, bucket->ctl.recv_len, bucket->words);
        }
    }
    entries = p;
    for (kind = 0; kind < 2; kind++) {
        uint32_t emitted = 0;

        for (i = 0; i < state.used[kind]; i++) {
            struct slot *slot = state.table[kind][i];

            if (!slot || !slot->key_len)
                continue;
            *p++ = slot->key_len;
            *p++ = slot->val_len;
            if (kind == JUMBO)
                *p++ = slot->val_len >> 8;
            p = append(p, slot->key, slot->key_len);
            p = append(p, slot->value, slot->val_len);
            emitted++;
        }
        put32(body + 20 + 4 * kind, emitted);
    }
    put32(body + 4, p - entries);
    put16(data, 21);
    put32(data + 4, p - body);
    return p;
}

static void print_hex(const void *from, uint32_t count)
{
    const uint8_t *bytes = from;

    while (count--) {
        putchar("0123456789abcdef"[*bytes >> 4]);
        putchar("0123456789abcdef"[*bytes++ & 15]);
    }
}

static void print_buffer(const uint8_t *buf, uint32_t count, uint32_t words)
{
    print_hex(buf, count < 4 * (words + 1) ? count : 4 * (words + 1));
}

/* ping_time, open_cookie; of each channel its control, and that many bytes of its buffer; so of
 * each of its buckets; of each slot with a key: jumbo or not, its number, lengths, key, value. */
static void print_state(void)
{
    uint32_t i, j, kind;

    print_hex(&state.ping_time, 8);
    print_hex(&state.open_cookie, 4);
    for (i = 0; i < chans; i++) {
        struct channel *channel = &state.chan[i];

        print_hex(&channel->ctl, sizeof(channel->ctl));
        print_buffer(channel->buf, channel->ctl.send_len, channel->words);
        for (j = 0; j <= buckets; j++) {
            struct bucket *bucket = &channel->bucket[j];

            print_hex(&bucket->ctl, sizeof(bucket->ctl));
            print_buffer(bucket->buf, bucket->ctl.recv_len, bucket->words);
        }
    }
    for (kind = 0; kind < 2; kind++)
        for (i = 0; i < state.used[kind]; i++) {
            struct slot *slot = state.table[kind][i];

            if (!slot || !slot->key_len)
                continue;
            print_hex(&kind, 4);
            print_hex(&i, 4);
            print_hex(&slot->key_len, 1);
            print_hex(&slot->val_len, 2);
            print_hex(slot->key, slot->key_len);
            print_hex(slot->value, slot->val_len);
        }
}

/* A case's numbers as they come, then what is loaded first, then the record. */
struct test { uint32_t size, over, memory, room; };

static void run(const struct test *test, const uint8_t *data)
{
    const char *failed;
    uint32_t cursor;
    uint8_t *saved;

    new_state();
    input.memory = -1;
    if (test->over)
        load(data, test->over, &cursor);
    input.memory = test->memory;
    failed = load(data + test->over, test->size, &cursor);
    if (failed) {
        printf("errno %s %u\n", failed, cursor);
        return;
    }
    printf("ok %u %u %u ", cursor, state.used[GUESTINFO], state.used[JUMBO]);
    print_state();
    putchar(' ');
    if (test->room < 8 + body_max)
        printf("full");
    else {
        saved = get(1, 8 + body_max);
        print_hex(saved, save(saved) - saved);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    uint32_t *constants[] = { &chans, &buckets, &key_max, &value_max, &jumbo_value_max,
                              &keys, &jumbo_keys, &version, &body_max };
    struct test test;
    int i;

    if (argc != 10)
        return 2;
    for (i = 0; i < 9; i++)
        *constants[i] = strtoul(argv[i + 1], NULL, 0);
    while (fread(&test, sizeof(test), 1, stdin) == 1) {
        size_t size = (size_t)test.size + test.over;
        uint8_t *data = malloc(size ? size : 1);
#ifndef QUERY
        int status;
#endif

        if (size && fread(data, size, 1, stdin) != 1)
            return 3;
#ifdef QUERY
        if (setjmp(violated) == 0)
            run(&test, data);
        else
            printf("violation %llu %llu %s%s%s\n", (unsigned long long)violation.asked,
                   (unsigned long long)violation.limit, violation.kind, violation.site,
                   violation.end);
        drop_all();
#else
        fflush(stdout);
        if (fork() == 0) {
            freopen("/dev/null", "w", stderr);
            run(&test, data);
            fflush(stdout);
            _exit(0);
        }
        wait(&status);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            puts("violation");
#endif
        free(data);
    }
    return 0;
}
