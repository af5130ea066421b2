"""DiffC: noisy versions of vectors and pictures, sent by reverse channel coding and denoised at the receiver."""
