# A document's code blocks as one shell script: what readme.sh runs.
#
#     ```sh                      commands, run as they stand, one block after the other in one shell
#     ```output                  what the block before prints, numbers and blanks apart
#     <!-- file: NAME -->        the next block is the text of NAME; a second one of that NAME is added to it
#     <!-- not run: WHY -->      the next block is not run
#     <!-- needs: PROGRAM -->    the next block is run where that is
#
# Any other block needs one of the two marks: nothing is in a document that is not tried or excused.
function literal(text) {
    gsub(/'/, "'\\''", text)
    return "'" text "'"
}
/^<!-- file: .* -->$/ { file = $3; next }
/^<!-- needs: .* -->$/ { needs = $3; next }
/^<!-- not run: .* -->$/ { excused = 1; next }
/^ *```/ && !inside {
    inside = 1
    language = $0
    sub(/^ *```/, "", language)
    text = ""
    line = FNR
    next
}
/^ *```/ {
    inside = 0
    if (excused)
        print "excused " line
    else if (file != "")
        printf "%s %d %s %s\n", file in seen ? "add" : "file", line, literal(file), literal(text)
    else if (language == "sh")
        printf "run %d %s %s\n", line, literal(text), needs
    else if (language == "output")
        printf "prints %d %s\n", line, literal(text)
    else
        printf "unknown %d %s\n", line, literal(language)
    if (file != "")
        seen[file]
    file = needs = ""
    excused = 0
    next
}
inside { text = text $0 "\n"; next }
/^(    |\t)/ && !list { print "indented " FNR }
{ list = /^ *([*-]|[0-9]+\.) / || (list && /^(  .*)?$/) }
END { if (inside) print "unknown " line " 'a block that does not end'" }
