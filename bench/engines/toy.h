/*
 * A small script engine for machines that have no other: a compiler to bytecode and its machine. It
 * allocates as engines do: at its start an atom for each name, prototypes with methods, a library
 * of its own language; then strings, objects and closures, which it frees at its end only.
 *
 *     (var t (new))                              a local, or of the program
 *     (put t "n" 1)                              objects inherit from `Object`
 *     (set add (fn (x) (fn (y) (+ x (+ y (get t "n"))))))   x and t are captured as they are
 *     (while (< (get t "n") 9) (put t "n" (+ (get t "n") 1)) (if (= 5 (get t "n")) (later add)))
 *     (+ ((add 1) 2) (get (json "{\"value\": 3}") "value"))
 *
 * A name that no `var` or parameter declares is global. Values are integers, strings, objects,
 * functions and nil; that of a function or program is its last expression's. (later f) leaves a
 * job, which nobody runs here; (jobs 0) tells how many there are.
 */
#ifndef TOY_H
#define TOY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct toy;

/* `alloc` returns NULL when there is no more. NULL: it was so at the start. */
struct toy *toy_open(void *(*alloc)(void *ud, size_t n), void (*give)(void *ud, void *p), void *ud);
void toy_close(struct toy *t);

/*
 * Runs a program, or a global function with a string, and writes the value as text. 0, or -1 with
 * what is wrong. The text is cut at `cap`.
 */
int toy_run(struct toy *t, const char *source, char *out, size_t cap);
int toy_call(struct toy *t, const char *function, const char *arg, size_t n, char *out, size_t cap);

/* Called every thousand instructions; it may leave by longjmp. NULL: nothing is. */
void toy_on_tick(struct toy *t, void (*tick)(void));

#ifdef __cplusplus
}
#endif

#endif
