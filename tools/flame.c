#include "flame.h"

#include "page.h"
#include "show.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 1200,
    ROW = 18,
    LETTER = 7,    /* width of a letter, about */
    NARROWEST = 3, /* tenths of a unit; what is narrower is left out */
    COLORS = 6,
};

struct node {
    const char *name;
    double bytes, blocks;
    struct node *child, *next;
};

struct tree {
    struct node *nodes;
    size_t used;
    unsigned depth;
};

/* A stack's names, innermost first, and what was allocated there. */
struct path {
    const char *const *name;
    size_t names;
    double bytes, blocks;
};

/* By their outermost names. */
static int by_names(const void *a, const void *b)
{
    const struct path *p = a, *q = b;
    size_t n = p->names < q->names ? p->names : q->names;
    for (size_t i = 1; i <= n; i++) {
        int order = strcmp(p->name[p->names - i], q->name[q->names - i]);
        if (order != 0)
            return order;
    }
    return (p->names > q->names) - (p->names < q->names);
}

/* Paths come in the order of their names: a node that is there already is the newest. */
static struct node *child_of(struct tree *t, struct node *n, const char *name)
{
    struct node *c = n->child;
    if (c != NULL && strcmp(c->name, name) == 0)
        return c;
    c = &t->nodes[t->used++];
    *c = (struct node){.name = name, .next = n->child};
    n->child = c;
    return c;
}

static void add(struct tree *t, const struct path *p)
{
    struct node *n = &t->nodes[0];
    for (size_t k = p->names;; k--) {
        n->bytes += p->bytes;
        n->blocks += p->blocks;
        if (k == 0)
            break;
        n = child_of(t, n, p->name[k - 1]);
    }
    t->depth = p->names + 1 > t->depth ? (unsigned)p->names + 1 : t->depth;
}

/* The widest first, names by name: the same tree looks the same each time. */
static int by_bytes(const void *a, const void *b)
{
    const struct node *const *x = a, *const *y = b;
    if ((*x)->bytes != (*y)->bytes)
        return (*x)->bytes < (*y)->bytes ? 1 : -1;
    return strcmp((*x)->name, (*y)->name);
}

static bool sort(struct node *n)
{
    size_t count = 0, i = 0;
    for (struct node *c = n->child; c != NULL; c = c->next)
        count++;
    if (count == 0)
        return true;
    struct node **list = calloc(count, sizeof(struct node *));
    if (list == NULL)
        return false;
    for (struct node *c = n->child; c != NULL; c = c->next)
        list[i++] = c;
    qsort(list, count, sizeof *list, by_bytes);
    struct node **link = &n->child;
    bool done = true;
    for (i = 0; i < count; i++) {
        *link = list[i];
        link = &list[i]->next;
        done &= sort(list[i]);
    }
    *link = NULL;
    free(list);
    return done;
}

/* The first node is the root, "all". */
static bool tree_open(struct tree *t, const struct heapfile *h, const struct names *names,
                      enum flame_of which)
{
    static const char *const none[] = {"(no stack)"};
    size_t frames = 0, n = 0;
    for (size_t i = 0; i < h->stack_count; i++)
        frames += h->stacks[i].frames + 1;
    *t = (struct tree){.nodes = calloc(frames + 1, sizeof *t->nodes), .used = 1};
    struct path *paths = calloc(h->stack_count + 1, sizeof *paths);
    if (t->nodes == NULL || paths == NULL) {
        free(paths);
        return false;
    }
    for (size_t i = 0; i < h->stack_count; i++) {
        const struct heap_stack *s = &h->stacks[i];
        struct path p = {names->of + (s->frame - h->frames), s->frames, s->live_bytes,
                         s->live_blocks};
        if (s->frames == 0)
            p = (struct path){none, 1, p.bytes, p.blocks};
        if (which == FLAME_ALL)
            p = (struct path){p.name, p.names, s->all_bytes, s->all_blocks};
        if (p.bytes > 0)
            paths[n++] = p;
    }
    qsort(paths, n, sizeof *paths, by_names);
    t->nodes[0].name = "all";
    for (size_t i = 0; i < n; i++)
        add(t, &paths[i]);
    free(paths);
    return sort(&t->nodes[0]);
}

/* ---- folded ---- */

static void put_folded(FILE *out, const struct node *n, const char **path, size_t depth)
{
    double own = n->bytes;
    for (const struct node *c = n->child; c != NULL; c = c->next) {
        path[depth] = c->name;
        put_folded(out, c, path, depth + 1);
        own -= c->bytes;
    }
    if (own < 0.5 || depth == 0)
        return;
    for (size_t i = 0; i < depth; i++) {
        if (i > 0)
            putc(';', out);
        for (const char *c = path[i]; *c != '\0'; c++)
            putc(*c == ';' || *c == '\n' ? ':' : *c, out);
    }
    fprintf(out, " %.0f\n", own);
}

bool flame_folded(FILE *out, const struct heapfile *h, const struct names *names,
                  enum flame_of which)
{
    struct tree t;
    bool done = tree_open(&t, h, names, which);
    const char **path = done ? calloc(t.depth + 1, sizeof *path) : NULL;
    if (path != NULL)
        put_folded(out, &t.nodes[0], path, 0);
    free(path);
    free(t.nodes);
    return path != NULL;
}

/* ---- the graph ---- */

static unsigned color_of(const char *name)
{
    unsigned h = 0;
    for (; *name != '\0'; name++)
        h = h * 31 + (unsigned char)*name;
    return h % COLORS;
}

/* A node and those below it, which it called: as an icicle, the outermost call on top. */
static void put_node(FILE *out, const struct node *n, double x, double scale, unsigned row,
                     double all)
{
    double width = n->bytes * scale;
    if (width * 10 < NARROWEST)
        return;
    char bytes[16], blocks[16];
    page_bytes(bytes, n->bytes);
    page_count(blocks, n->blocks);
    fprintf(out, "<g><title>");
    show_xml_text(out, n->name, SIZE_MAX);
    fprintf(out,
            "&#10;%s in %s blocks, %.1f %%</title>"
            "<rect class=\"f%u\" x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"%d\"/>",
            bytes, blocks, 100 * n->bytes / all, color_of(n->name), x, row * ROW,
            width > 1 ? width - 0.5 : width, ROW - 1);
    size_t letters = width > 10 ? (size_t)((width - 8) / LETTER) : 0;
    if (letters >= 3) {
        fprintf(out, "<text x=\"%.1f\" y=\"%u\">", x + 4, row * ROW + ROW - 5);
        show_xml_text(out, n->name, letters);
        fprintf(out, "</text>");
    }
    fprintf(out, "</g>\n");
    for (const struct node *c = n->child; c != NULL; c = c->next) {
        put_node(out, c, x, scale, row + 1, all);
        x += c->bytes * scale;
    }
}

bool flame_svg(FILE *out, const struct heapfile *h, const struct names *names, enum flame_of which)
{
    struct tree t;
    bool done = tree_open(&t, h, names, which);
    if (done && t.nodes[0].bytes > 0) {
        fprintf(out,
                "<div class=\"wide\"><svg class=\"flame\" viewBox=\"0 0 %d %u\" role=\"img\">\n",
                WIDTH, t.depth * ROW);
        put_node(out, &t.nodes[0], 0, WIDTH / t.nodes[0].bytes, 0, t.nodes[0].bytes);
        fprintf(out, "</svg></div>\n");
    } else if (done) {
        fprintf(out, "<p class=\"none\">Nothing was sampled.</p>\n");
    }
    free(t.nodes);
    return done;
}
