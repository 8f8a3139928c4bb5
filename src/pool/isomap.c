#include "pool/isomap.h"

_Atomic(uint64_t) isomap_gone;
