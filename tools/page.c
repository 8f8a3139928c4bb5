#include "page.h"

#include "base/fmt.h"
#include "show.h"

static const char style[] =
    ":root{color-scheme:light dark;--back:#fbfbf9;--card:#fff;--ink:#1d2129;--dim:#667;"
    "--line:#e2e2dd;--c0:#2f6fb0;--c1:#e08b3a;--c2:#4a9d6f;--c3:#b9bcc4;--c4:#8a63b8;--c5:#c9564e;"
    "--c6:#8a8f99;--f0:#f0b66a;--f1:#eda25c;--f2:#f2c57f;--f3:#e8926b;--f4:#e9b98c;--f5:#f0cf99;"
    "--fink:#2a1c08}"
    "@media(prefers-color-scheme:dark){:root{--back:#15171c;--card:#1d2027;--ink:#e6e8ec;"
    "--dim:#9aa1ad;--line:#313640;--c0:#6ea8e0;--c1:#e9a15c;--c2:#6fc495;--c3:#4c525e;--c4:#b391dc;"
    "--c5:#e17e76;--c6:#79808d;--f0:#a8672a;--f1:#9c5524;--f2:#b07a35;--f3:#994633;--f4:#8d5f3a;"
    "--f5:#a58347;--fink:#fff4e2}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;padding:24px 16px 64px;max-width:1240px;background:var(--back);"
    "color:var(--ink);font:15px/1.5 system-ui,sans-serif}"
    "h1{font-size:26px;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:18px;margin:36px 0 10px}"
    "p{margin:0 0 12px;color:var(--dim);max-width:75ch}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;"
    "margin:20px 0}"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:10px;"
    "padding:12px 14px}"
    ".tile b{display:block;font-size:22px;font-weight:600}.tile span{color:var(--dim);"
    "font-size:13px}"
    ".wide{overflow-x:auto;background:var(--card);border:1px solid var(--line);"
    "border-radius:10px;padding:10px}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th{color:var(--dim);font-weight:500;font-size:13px}"
    "th,td{text-align:right;padding:3px 10px;white-space:nowrap;"
    "border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}"
    "th:nth-child(2).bar{text-align:left}td.bar{width:34%;min-width:140px}svg{display:block;width:"
    "100%}"
    ".strip{height:14px;border-radius:3px}.tall{height:34px;border-radius:6px}"
    ".flame,.chart{min-width:900px;height:auto}"
    ".flame text{font:11.5px ui-monospace,monospace;fill:var(--fink);pointer-events:none}"
    ".flame g:hover rect{stroke:var(--ink)}"
    ".chart text{font:13px system-ui,sans-serif;fill:var(--dim)}"
    ".chart line{stroke:var(--line)}.chart polyline{fill:none;stroke-width:2.5;"
    "stroke-linejoin:round}"
    ".key{display:flex;flex-wrap:wrap;gap:4px 18px;margin:10px 0 0;font-size:13px;"
    "color:var(--dim)}"
    ".key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}"
    ".none{font-style:italic}"
    ".c0{fill:var(--c0);background:var(--c0)}.c1{fill:var(--c1);background:var(--c1)}"
    ".c2{fill:var(--c2);background:var(--c2)}.c3{fill:var(--c3);background:var(--c3)}"
    ".c4{fill:var(--c4);background:var(--c4)}.c5{fill:var(--c5);background:var(--c5)}"
    ".c6{fill:var(--c6);background:var(--c6)}.s0{stroke:var(--c0)}.s2{stroke:var(--c2)}"
    ".s5{stroke:var(--c5)}.s6{stroke:var(--c6)}"
    ".f0{fill:var(--f0)}.f1{fill:var(--f1)}.f2{fill:var(--f2)}.f3{fill:var(--f3)}"
    ".f4{fill:var(--f4)}.f5{fill:var(--f5)}";

void page_begin(FILE *out, const char *title)
{
    fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                 "<title>");
    show_xml_text(out, title, 200);
    fprintf(out, "</title>\n<style>%s</style>\n</head>\n<body>\n<h1>", style);
    show_xml_text(out, title, 200);
    fprintf(out, "</h1>\n");
}

void page_end(FILE *out)
{
    fprintf(out, "</body>\n</html>\n");
}

/* What is no number of bytes, blocks or nanoseconds is 0, or as many as there can be. */
static uint64_t whole(double n)
{
    return n > 0 ? n < 0x1p64 ? (uint64_t)n : UINT64_MAX : 0;
}

void page_bytes(char out[16], double n)
{
    fmt_bytes_text(out, whole(n));
}

void page_count(char out[16], double n)
{
    fmt_count_text(out, whole(n));
}

void page_time(char out[16], double ns)
{
    fmt_time_text(out, whole(ns));
}
