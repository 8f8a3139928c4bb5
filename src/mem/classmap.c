#include "mem/classmap.h"

struct window window;
ASH_TABLE _Atomic(uint8_t) classmap[WINDOW_UNITS];
