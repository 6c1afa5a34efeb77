"""From media to codes and back: one tokeniser for each of text, pictures, clips and sound."""
