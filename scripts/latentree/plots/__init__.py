"""Pictures from AnnData and tables; every module draws one kind and imports no pyplot."""
