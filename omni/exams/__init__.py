"""The exam of Primer across words, pictures, clips and sound: questions, probes that judge, figures."""
