/* cc -o reader reader.c; ./reader 4.17 amd < expected.tsv: what to load, and what to expect */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    char name[128], into[32], release[32], vendor[32], verdict[32], rule[128];
    static unsigned char data[2 << 20];
    int error;

    while (scanf("%127s %31s %31s %31s %31s %d %127s %*s", name, into, release, vendor, verdict,
                 &error, rule) == 7) {
        int wanted = argc == 3 && !strcmp(release, argv[1]) && !strcmp(vendor, argv[2]);
        FILE *file = wanted ? fopen(name, "rb") : NULL;
        size_t size = file ? fread(data, 1, sizeof(data), file) : 0;

        if (file && !fclose(file)) /* here: load data[0] to data[size - 1], and compare */
            printf("%s into %s: %zu bytes: %s %d %s\n", name, into, size, verdict, error, rule);
    }
    return 0;
}
