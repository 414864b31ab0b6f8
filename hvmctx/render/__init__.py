"""What people read: contexts in the text of xen-hvmctx, images in words, tables, pages."""
