//! What is read in node-cache's place, without any of its files.
