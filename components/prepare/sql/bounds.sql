SELECT MIN(id) AS lowest, MAX(id) AS highest FROM {{ counted }}
