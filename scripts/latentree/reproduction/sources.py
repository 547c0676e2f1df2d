"""Names of papers and data files; not in the registry, on which no experiment may depend."""

ZEISEL = "zeisel2015_200genes.h5ad"
ZHENG = "zheng2017_sorted_pbmc.h5ad"
ZEISEL_FULL = "zeisel2015_full.h5ad"
"""Of all genes; config/zeisel.yaml tells how to make it."""
GENE_SETS = "GO_Biological_Process_2021.human.gmt"
MOVIELENS = "u.data"
"""Stands for the file that the config's ``reproduction.movielens`` names, whatever it is called."""

SPARSE_VAE_PAPER = "Moran et al. 2022 (Sparse VAE)"
DD_PAPER = "Mathieu et al. 2019 (disentangling disentanglement)"
INTEL_PAPER = "Miao et al. 2022 (InteL-VAE)"
OI_PAPER = "Ainsworth et al. 2018 (oi-VAE)"
