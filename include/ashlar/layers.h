/*
 * The layers on top of Ashlar: this header includes all others of libashlar-layers, which a program
 * links to by -lashlar-layers -lashlar, or `pkg-config --libs ashlar-layers`.
 */
#ifndef ASHLAR_LAYERS_H
#define ASHLAR_LAYERS_H

#include <ashlar/msg.h>
#include <ashlar/txn.h>
#include <ashlar/vm.h>

#endif
