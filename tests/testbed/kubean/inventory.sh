INVENTORY=/conf/hosts.yml
if [ -n "$VAULT_PRIVATE_KEY" ]; then
  KEY="$(mktemp)"
  base64 -d <<<"$VAULT_PRIVATE_KEY" >"$KEY"
  INVENTORY=/conf/hosts0.yml
  SECRET='^( *ansible_(password|ssh_pass|become_password): *)"?VAULT;([A-Za-z0-9+/=]+)"? *$'
  while IFS= read -r line || [ -n "$line" ]; do
    if [[ "$line" =~ $SECRET ]]; then
      head="${BASH_REMATCH[1]}" cipher="${BASH_REMATCH[3]}"
      line="$head\"$(base64 -d <<<"$cipher" | openssl pkeyutl -decrypt -inkey "$KEY")\""
    fi
    printf '%s\n' "$line"
  done </conf/hosts.yml >"$INVENTORY"
  rm -f "$KEY"
fi
exec 200<"$INVENTORY"
[ "$INVENTORY" = /conf/hosts.yml ] || rm -f "$INVENTORY"
