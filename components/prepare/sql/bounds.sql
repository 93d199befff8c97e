SELECT MIN({{ column }}) AS lowest, MAX({{ column }}) AS highest FROM {{ kept }}
