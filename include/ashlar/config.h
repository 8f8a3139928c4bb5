/*
 * How the create functions of Ashlar take their settings: a struct that begins with struct_size, so
 * that programs compiled against an older or a newer version work. Each header has a macro that
 * fills one in for the length of the call, as in
 *
 *     ASH_POOL_CONFIG(.obj_size = 256, .prealloc = 1000)
 *
 * Fields that are not named are 0, which means the default; in C++ (20, for the designators) they
 * are to be named in the struct's order.
 *
 * Caveats: the macro's value is valid until the end of the full expression that it stands in, in C
 * until the end of the block.
 */
#ifndef ASHLAR_CONFIG_H
#define ASHLAR_CONFIG_H

#include <stddef.h>

#ifdef __cplusplus
template <class Config> static inline const Config *ashlar_config_address(const Config &config)
{
    return &config;
}
#define ASH_CONFIG(type, ...)                                                                      \
    ashlar_config_address<type>({.struct_size = sizeof(type), __VA_ARGS__})
#else
#define ASH_CONFIG(type, ...) (&(const type){.struct_size = sizeof(type), __VA_ARGS__})
#endif

#endif
