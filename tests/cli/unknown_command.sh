sae banana
