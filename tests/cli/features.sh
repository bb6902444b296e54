# A database as lists and as one feature's card, and what is refused.
db=golden/../fuzz/corpus/features_db/valid
sae features list $db --sort fires --limit 3
sae features top $db --sort id --limit 1 | head -4
sae features show $db 0 | head -7
sae features show $db 96 || echo "exit $?"
sae features show $db one || echo "exit $?"
sae features list $db --sort shiny || echo "exit $?"
sae features list golden/tiny/sae/cfg.json || echo "exit $?"
sae features golden/tiny/sae golden/tiny/sae || echo "exit $?"
sae features list $db --limit 2 --json | grep -c '"feature"'
