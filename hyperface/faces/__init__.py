"""Pictures of faces, wherever they come from: folders, archives, tables."""
