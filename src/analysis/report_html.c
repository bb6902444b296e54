#include "analysis/report_internal.h"

#include <math.h>
#include <string.h>

/* Text in the system's own type, numbers that line up, tables that scroll on a narrow screen, dark when the reader's screen is. */
const char report_style[] =
    ":root{--ink:#1b1f24;--soft:#5b6571;--line:#d9dee4;--paper:#fff;--tint:#f5f7f9;--hot:255,138,0;--accent:#0b62c4}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#98a3ae;--line:#343b43;--paper:#14171a;--tint:#1c2126;"
    "--hot:255,150,30;--accent:#6db3ff}}"
    "*{box-sizing:border-box}html{color-scheme:light dark;-webkit-text-size-adjust:100%}"
    "body{margin:0 auto;padding:2.5rem 1.25rem 5rem;max-width:62rem;background:var(--paper);color:var(--ink);"
    "font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',sans-serif}"
    "h1{font-size:2rem;line-height:1.2;margin:0 0 .3rem;font-weight:650;letter-spacing:-.015em}"
    "h2{font-size:1.3rem;margin:3rem 0 .6rem;padding-top:1.2rem;border-top:1px solid var(--line);font-weight:650}"
    "h3{font-size:1rem;margin:1.8rem 0 .4rem;font-weight:650}p{margin:.5rem 0;max-width:46rem}"
    ".lead{font-size:1.08rem;color:var(--soft);margin-bottom:1.4rem}.note{color:var(--soft);font-size:.9rem}"
    "ul.findings{list-style:none;margin:1.4rem 0 0;padding:1rem 1.2rem;background:var(--tint);border-radius:.6rem}"
    "ul.findings li{margin:.35rem 0}"
    ".wide{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse;font-size:.9rem;min-width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.38rem .9rem .38rem 0;border-bottom:1px solid var(--line)}"
    "th{font-weight:600;color:var(--soft);white-space:nowrap;border-bottom-width:2px}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}tr:last-child td{border-bottom:0}"
    ".facts{margin:.8rem 0}.facts th{font-weight:400;width:min(15rem,38%);white-space:normal;border-bottom-width:1px}"
    ".facts td{overflow-wrap:anywhere}.facts tr:last-child th{border-bottom:0}"
    "td:last-child,th:last-child{padding-right:0}"
    "code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono','Liberation Mono',monospace}"
    "pre{background:var(--tint);padding:.8rem "
    "1rem;border-radius:.5rem;overflow-x:auto;white-space:pre-wrap;word-break:break-word}"
    "figure{margin:1rem 0;overflow-x:auto}figure "
    "svg{display:block;width:100%;min-width:34rem;height:auto}figcaption{color:var(--soft);font-size:.9rem}"
    "figure svg text{fill:var(--ink)}figure svg [stroke=black]{stroke:var(--soft)}figure svg .gridline{stroke:var(--line)}"
    "details{border-top:1px solid var(--line);padding:.55rem 0}summary{cursor:pointer;display:flex;gap:.8rem;"
    "align-items:baseline;flex-wrap:wrap}summary b{font-weight:600}summary .note{margin-left:auto}"
    ".context{margin:.45rem 0 .45rem 0;padding-left:.8rem;border-left:2px solid var(--line);font-size:.92rem;"
    "white-space:pre-wrap;overflow-wrap:anywhere}.context b{font-weight:600}"
    ".context i,.key i{font-style:normal;border-radius:.2rem;background:rgba(var(--hot),var(--a))}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:0 1.6rem;border-bottom:1px solid var(--line);padding:.7rem 0}"
    ".pair p{margin:0;font-size:.92rem;overflow-wrap:anywhere}.pair .prompt{grid-column:1/-1;color:var(--soft);"
    "margin-bottom:.25rem}.pair mark{background:rgba(var(--hot),.3);color:inherit;border-radius:.2rem}"
    ".bar{display:inline-block;position:relative;width:9rem;height:.75rem;background:var(--tint);border-radius:.2rem;"
    "vertical-align:-.05rem}.bar i,.bar u{position:absolute;top:0;bottom:0;border-radius:.2rem}"
    ".bar i{background:var(--accent);opacity:.75;left:0}.bar u{top:40%;bottom:40%;background:var(--ink);opacity:.6}"
    "@media(max-width:40rem){body{padding:1.5rem 1rem 4rem}h1{font-size:1.6rem}.pair{grid-template-columns:1fr;gap:.5rem}"
    "summary .note{margin-left:0}}";

static void add_char(strbuf *h, char ch) {
    switch (ch) {
    case '&': strbuf_add_str(h, "&amp;"); break;
    case '<': strbuf_add_str(h, "&lt;"); break;
    case '>': strbuf_add_str(h, "&gt;"); break;
    case '"': strbuf_add_str(h, "&quot;"); break;
    case '\'': strbuf_add_str(h, "&#39;"); break;
    default:
        if ((unsigned char)ch >= 0x20 || ch == '\n') strbuf_add_char(h, ch);
    }
}

void html_text_n(strbuf *h, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) add_char(h, text[i]);
}

void html_text(strbuf *h, const char *text) { html_text_n(h, text, strlen(text)); }

/* ---- tables ---- */

static bool is_numeric(const char *column) { return column[0] && column[strlen(column) - 1] == '#'; }

void html_table_begin(strbuf *h, const char *const *columns, int n) {
    strbuf_add_str(h, "<div class=wide><table><tr>");
    for (int i = 0; i < n; i++) {
        bool numeric = is_numeric(columns[i]);
        strbuf_add_str(h, numeric ? "<th class=n>" : "<th>");
        html_text_n(h, columns[i], strlen(columns[i]) - numeric);
        strbuf_add_str(h, "</th>");
    }
}

void html_row(strbuf *h) { strbuf_add_str(h, "</tr>\n<tr>"); }

void html_cell(strbuf *h, const char *text) {
    strbuf_add_str(h, "<td>");
    html_text(h, text);
    strbuf_add_str(h, "</td>");
}

void html_number(strbuf *h, const char *format, double x) {
    strbuf_add_str(h, "<td class=n>");
    if (isfinite(x))
        strbuf_addf(h, format, x);
    else
        strbuf_add_str(h, "–");
    strbuf_add_str(h, "</td>");
}

void html_table_end(strbuf *h) { strbuf_add_str(h, "</tr></table></div>\n"); }

/* ---- examples ---- */

void html_example(strbuf *h, const feature_example *x, double max) {
    strbuf text = STRBUF_INIT;
    strbuf_add_str(&text, x->before);
    size_t focus = text.len;
    strbuf_add_str(&text, x->focus);
    size_t focus_end = text.len;
    strbuf_add_str(&text, x->after);
    int64_t at = 0, end = (int64_t)text.len;
    strbuf_add_str(h, "<div class=context>");
    for (int64_t i = 0; i < x->n_spans; i++) {
        const feature_span *s = &x->spans[i];
        if (s->start < at || s->end <= s->start || s->end > end) continue; /* nothing that overlaps or leaves the text */
        bool is_focus = (size_t)s->start <= focus && (size_t)s->end >= focus_end && focus_end > focus;
        html_text_n(h, text.data + at, (size_t)(s->start - at));
        double share = max > 0 && s->value > 0 ? s->value / max : 0;
        strbuf_addf(h, "<i style=--a:%.2f>%s", 0.75 * (share < 1 ? share : 1), is_focus ? "<b>" : "");
        html_text_n(h, text.data + s->start, (size_t)(s->end - s->start));
        strbuf_add_str(h, is_focus ? "</b></i>" : "</i>");
        at = s->end;
    }
    html_text_n(h, text.data + at, (size_t)(end - at));
    strbuf_add_str(h, "</div>\n");
    h->failed |= text.failed;
    strbuf_release(&text);
}
