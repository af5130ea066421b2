"""What is sent: items, tokens, models and coders.

    codecs/     classical image codecs, and what their damaged files still show
    diffusion/  DiffC: noisy versions, sent by reverse channel coding
    models/     generative models: one predictor for coding and for restoring
    online/     learning while coding
    training/   what `channel-sim train` does
"""
