#include "core/names.h"
#include "core/strbuf.h"

#include <ctype.h>
#include <string.h>

enum { NAME_MAX = 64 }; /* longer names are never taken for typing mistakes */

static const char *name_at(const void *table, int i, size_t stride) {
    const char *name;
    const void *row = (const char *)table + (size_t)i * stride;
    if (stride == NAMES_OF_POINTERS) memcpy(&row, (const char *)table + (size_t)i * sizeof row, sizeof row);
    memcpy(&name, row, sizeof name);
    return name;
}

static int min3(int a, int b, int c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }

/* cost[i][j]: the distance between the first i letters of a and the first j of b */
static int edit_distance(const char *a, const char *b) {
    int n = (int)strlen(a), m = (int)strlen(b);
    unsigned char cost[NAME_MAX + 1][NAME_MAX + 1];
    for (int i = 0; i <= n; i++) cost[i][0] = (unsigned char)i;
    for (int j = 0; j <= m; j++) cost[0][j] = (unsigned char)j;
    for (int i = 1; i <= n; i++) {
        for (int j = 1; j <= m; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            int best = min3(cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (x != y));
            bool swapped = i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) && y == tolower((unsigned char)a[i - 2]);
            if (swapped && cost[i - 2][j - 2] + 1 < best) best = cost[i - 2][j - 2] + 1;
            cost[i][j] = (unsigned char)best;
        }
    }
    return cost[n][m];
}

/* One mistake in a short word, up to three in a long one; a word that begins a name (--tok for --tokens) also counts. */
const char *names_nearest(const char *word, const void *table, int n, size_t stride) {
    size_t length = strlen(word);
    if (length > NAME_MAX) return NULL;
    int best = length < 4 ? 2 : length < 8 ? 3 : 4; /* one more than allowed */
    const char *nearest = NULL, *completed = NULL;
    for (int i = 0; i < n; i++) {
        const char *name = name_at(table, i, stride);
        if (strlen(name) > NAME_MAX) continue;
        int distance = edit_distance(word, name);
        if (distance < best && distance < (int)strlen(name)) {
            best = distance;
            nearest = name;
        }
        if (!completed && length >= 2 && !strncmp(name, word, length)) completed = name;
    }
    return nearest ? nearest : completed;
}

int names_find(const char *word, const void *table, int n, size_t stride) {
    for (int i = 0; i < n; i++)
        if (!strcmp(word, name_at(table, i, stride))) return i;
    return -1;
}

err_code names_unknown(err *e, err_code code, const char *kind, const char *word, const void *table, int n, size_t stride) {
    const char *nearest = names_nearest(word, table, n, stride);
    strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "unknown %s '%s'", kind, word);
    if (nearest) strbuf_addf(&s, ", did you mean '%s'?", nearest);
    for (int i = 0; i < n; i++) strbuf_addf(&s, "%s%s", i ? ", " : " (known: ", name_at(table, i, stride));
    if (n) strbuf_add_char(&s, ')');
    err_set(e, code, "%s", s.data);
    strbuf_release(&s);
    return code;
}
