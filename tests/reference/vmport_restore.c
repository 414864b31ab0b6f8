/*
 * The VMPORT loader of the never merged patch, naive on purpose: it trusts every length
 * that the record claims. Written from the format's description. Compiled with
 * AddressSanitizer, every buffer an allocation of its own, it aborts where the loader would
 * leave its memory, and so is the second opinion on the model in hvmctx/restore/vmport.py.
 *
 * Usage: vmport_restore CHANS BKTS KEY VAL JUMBOVAL NKEYS NJUMBO VERSION MAXBODY < records
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

static uint32_t chans, buckets, key_max, value_max, jumbo_value_max, keys, jumbo_keys;
static uint32_t version, body_max;

struct entry { uint8_t *key, *value; };

static uint16_t get16(const uint8_t *from) { uint16_t v; memcpy(&v, from, 2); return v; }
static uint32_t get32(const uint8_t *from) { uint32_t v; memcpy(&v, from, 4); return v; }

static uint8_t *array(uint32_t words) { return calloc(words + 1, 4); }

static const uint8_t *fill(const uint8_t *from, uint8_t *to, uint16_t length)
{
    memcpy(to, from, length);
    return from + length;
}

/* One of the two loops over guestinfo entries. */
static uint32_t load_entries(const uint8_t **cursor, uint32_t *left, uint32_t used, uint32_t more,
                             uint32_t least, uint32_t slots, uint32_t value_size, int jumbo)
{
    struct entry **table = calloc(slots, sizeof(*table));
    uint32_t count = used + more, i;

    if (count < least)
        count = least;
    for (i = 0; i < count; i++) {
        if (!table[i]) {
            table[i] = calloc(1, sizeof(**table));
            table[i]->key = calloc(1, key_max);
            table[i]->value = calloc(1, value_size);
        }
        if (i < used && *left > 0) {
            const uint8_t *p = *cursor;
            uint32_t key_length = *p++, value_length;

            if (jumbo) {
                volatile uint8_t low = p[0], high = p[1];
                value_length = low | high << 8;
                p += 2;
            } else
                value_length = *p++;
            *left -= jumbo ? 3 : 2;
            if (*left >= key_length + value_length && key_length) {
                memcpy(table[i]->key, p, key_length);
                p += key_length;
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
    body = malloc(length);
    memcpy(body, data + 8, length);
    head = malloc(fixed);
    memcpy(head, body, 4);
    if (get32(head) != version) { puts("errno EINVAL"); return; }
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
        int status;

        if (size && fread(data, size, 1, stdin) != 1)
            return 3;
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
        free(data);
    }
    return 0;
}
