"""A living index made of photos, grown, described anew and searched by photo."""
