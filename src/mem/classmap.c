#include "mem/classmap.h"

struct window window;
_Atomic(uint8_t) classmap[WINDOW_UNITS];
