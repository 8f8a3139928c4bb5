/*
 * The note that leads to the entries of base/anchor.h: named "Ashlar", its type is the format, its
 * content the distances from each of two words to the first entry and behind the last, and the
 * version as text.
 */
#include "ashlar/ashlar.h"
#include "base/anchor.h"

_Static_assert(ANCHOR_FORMAT == 1 && sizeof(struct anchor) == 24, "the text below says so");

__asm__(".pushsection .note.ashlar,\"a\",%note\n\t"
        ".balign 4\n\t"
        ".long 8\n\t"
        ".long 2f - 1f\n\t"
        ".long 1\n\t"
        ".ascii \"Ashlar\\0\\0\"\n\t"
        ".hidden __start_ashlar_anchor\n\t"
        ".hidden __stop_ashlar_anchor\n"
        "1:\t.long __start_ashlar_anchor - .\n\t"
        ".long __stop_ashlar_anchor - .\n\t"
        ".asciz \"" ASHLAR_VERSION "\"\n\t"
        ".balign 4\n"
        "2:\t.popsection");
