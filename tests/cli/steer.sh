# What steering refuses, and that it says how many positions it changed.
m=golden/models/llama/model.gguf
sae steer $m golden/tiny/sae --feature 3=5 --prompt "The moon" --tokens 6 --temperature 0 --json --quiet | grep -c '"steered"\|"unsteered"\|"positions_changed": 1[0-9]\|"schema": "sae.steer/1"'
sae steer $m golden/tiny/sae --feature 96=5 --prompt "The moon" --quiet || echo "exit $?"
sae steer $m golden/tiny/sae --feature 3=2x --prompt "The moon" --quiet || echo "exit $?"
sae steer $m golden/tiny/sae --feature 3 --prompt "The moon" --quiet || echo "exit $?"
sae steer $m golden/tiny/sae --feature x=1 --prompt "The moon" --quiet || echo "exit $?"
sae steer $m golden/tiny/sae --feature 3=1 --mode clmap --prompt "The moon" --quiet || echo "exit $?"
sae steer $m golden/tiny/sae --feature 3=1 --quiet || echo "exit $?"
sae steer $m golden/tiny/sae --feature 3 --sweep --quiet || echo "exit $?"
