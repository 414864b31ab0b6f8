/*
 * The VMPORT loader of the never merged patch, naive on purpose: it trusts every length
 * that the record claims. Written from the format's description. Compiled with
 * AddressSanitizer, every buffer an allocation of its own, it aborts where the loader would
 * leave its memory, and so is the second opinion on the model in hvmctx/restore/vmport.py.
 *
 * Usage: vmport_restore CHANS BKTS KEY VAL JUMBOVAL NKEYS NJUMBO VERSION MAXBODY < records
 * Compiled with QUERY defined as well, it asks AddressSanitizer before each step instead of
 * stepping and being killed: no process for each record, a hundred times as fast.
 *
 * Standard input: u32 length, that many bytes (descriptor, body, whatever follows), again
 * and again. Standard output, a line for each: "ok SLOTS JUMBO_SLOTS", "errno NAME", or
 * "violation".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef QUERY
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#define GUARD 64
static jmp_buf violated;
static struct { uint8_t *place; size_t size; } made[100000];
static unsigned made_count;
#define TOUCH(place, count) \
    do { if ((count) && __asan_region_is_poisoned((void *)(place), (count))) longjmp(violated, 1); } while (0)

/* The allocator's own red zones are not enough: after the last of its blocks nothing is
 * poisoned, and not even mapped. */
static void *get(size_t count, size_t size)
{
    uint8_t *place;

    size *= count;
    place = calloc(1, size + GUARD);
    __asan_poison_memory_region(place + size, GUARD);
    made[made_count].place = place;
    made[made_count++].size = size;
    return place;
}

static void drop_all(void)
{
    while (made_count) {
        made_count--;
        __asan_unpoison_memory_region(made[made_count].place + made[made_count].size, GUARD);
        free(made[made_count].place);
    }
}
#else
#define TOUCH(place, count) do { } while (0)
#define get(count, size) calloc(count, size)
#endif

static uint32_t chans, buckets, key_max, value_max, jumbo_value_max, keys, jumbo_keys;
static uint32_t version, body_max;

struct entry { uint8_t *key, *value; };

static uint16_t get16(const uint8_t *from) { uint16_t v; memcpy(&v, from, 2); return v; }
static uint32_t get32(const uint8_t *from) { uint32_t v; memcpy(&v, from, 4); return v; }

static uint8_t *array(uint32_t words) { return get(words + 1, 4); }

static const uint8_t *fill(const uint8_t *from, uint8_t *to, uint16_t length)
{
    TOUCH(from, length);
    TOUCH(to, length);
    memcpy(to, from, length);
    return from + length;
}

/* One of the two loops over guestinfo entries. */
static uint32_t load_entries(const uint8_t **cursor, uint32_t *left, uint32_t used, uint32_t more,
                             uint32_t least, uint32_t slots, uint32_t value_size, int jumbo)
{
    struct entry **table = get(slots, sizeof(*table));
    uint32_t count = used + more, i;

    if (count < least)
        count = least;
    for (i = 0; i < count; i++) {
        TOUCH(&table[i], sizeof(*table));
        if (!table[i]) {
            table[i] = get(1, sizeof(**table));
            table[i]->key = get(1, key_max);
            table[i]->value = get(1, value_size);
        }
        if (i < used && *left > 0) {
            const uint8_t *p = *cursor;
            uint32_t key_length, value_length;

            TOUCH(p, 1);
            key_length = *p++;

            if (jumbo) {
                volatile uint8_t low, high;

                TOUCH(p, 2);
                low = p[0];
                high = p[1];
                value_length = low | high << 8;
                p += 2;
            } else
            {
                TOUCH(p, 1);
                value_length = *p++;
            }
            *left -= jumbo ? 3 : 2;
            if (*left >= key_length + value_length && key_length) {
                TOUCH(p, key_length);
                TOUCH(table[i]->key, key_length);
                memcpy(table[i]->key, p, key_length);
                p += key_length;
                TOUCH(p, value_length);
                TOUCH(table[i]->value, value_length);
                memcpy(table[i]->value, p, value_length);
                p += value_length;
                *left -= key_length + value_length;
            }
            *cursor = p;
        }
    }
    return count;
}

static void load(const uint8_t *data, uint32_t size)
{
    uint32_t send_words = (22 + key_max + value_max + 3) / 4;
    uint32_t recv_words = (2 + value_max + 3) / 4, jumbo_words = (2 + jumbo_value_max + 3) / 4;
    uint32_t stride = (32 + 4 * (buckets + 1) + 7) / 8 * 8, fixed = 32 + chans * stride;
    uint32_t length, left, slots, jumbo_slots, i, j;
    uint8_t *body, *head;
    const uint8_t *cursor;

    if (size < 8) { puts("errno E2BIG"); return; }
    length = get32(data + 4);
    if ((uint64_t)length + 8 > size) { puts("errno EFBIG"); return; }
    if (get16(data) != 21 || length > body_max) { puts("errno ESRCH"); return; }
    body = get(1, length);
    memcpy(body, data + 8, length);
    head = get(1, fixed);
    TOUCH(body, 4);
    memcpy(head, body, 4);
    if (get32(head) != version) { puts("errno EINVAL"); return; }
    TOUCH(body, fixed);
    memcpy(head, body, fixed);
    cursor = body + fixed;
    left = get32(head + 4);
    for (i = 0; i < chans; i++) {
        const uint8_t *control = head + 32 + i * stride;

        cursor = fill(cursor, array(send_words), get16(control + 20));
        for (j = 0; j <= buckets; j++)
            cursor = fill(cursor, array(j < buckets ? recv_words : jumbo_words),
                          get16(control + 32 + 4 * j));
    }
    slots = load_entries(&cursor, &left, get32(head + 20), 5, 10, keys, value_max, 0);
    jumbo_slots = load_entries(&cursor, &left, get32(head + 24), 1, 2, jumbo_keys,
                               jumbo_value_max, 1);
    printf("ok %u %u\n", slots, jumbo_slots);
}

int main(int argc, char **argv)
{
    uint32_t *constants[] = { &chans, &buckets, &key_max, &value_max, &jumbo_value_max,
                              &keys, &jumbo_keys, &version, &body_max };
    uint32_t size;
    int i;

    if (argc != 10)
        return 2;
    for (i = 0; i < 9; i++)
        *constants[i] = strtoul(argv[i + 1], NULL, 0);
    while (fread(&size, 4, 1, stdin) == 1) {
        uint8_t *data = malloc(size ? size : 1);
#ifndef QUERY
        int status;
#endif

        if (size && fread(data, size, 1, stdin) != 1)
            return 3;
#ifdef QUERY
        if (setjmp(violated) == 0)
            load(data, size);
        else
            puts("violation");
        drop_all();
#else
        fflush(stdout);
        if (fork() == 0) {
            freopen("/dev/null", "w", stderr);
            load(data, size);
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
