MOD(users.hash_factor * items.hash_factor + users.hash_term + items.hash_term, 2147483647)
