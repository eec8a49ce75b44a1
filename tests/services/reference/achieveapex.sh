curl -X GET https://api.achieveapex.com/contacts \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{ "query": { "organization_id": 456, "$limit": 25, "$skip": 0, "$sort": { "created_at": -1 }, "fastJoinForContactList": true } }'

curl -X GET https://api.achieveapex.com/contacts/123 \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json"

curl -X POST https://api.achieveapex.com/contacts \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{ "organization_id": 456, "first_name": "Jane", "last_name": "Smith", "email": "jane.smith@example.com", "phone": "9876543210", "phone_country_code": "+1", "phone_country_iso": "US", "owned_by_user_id": 789, "company_id": 101 }'

curl -X PATCH https://api.achieveapex.com/contacts/123 \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{ "email": "john.updated@example.com", "phone": "5551234567", "company_id": 102 }'

curl -X DELETE https://api.achieveapex.com/contacts/123 \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json"

curl -X POST https://api.achieveapex.com/contacts \
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \
  -H "Content-Type: application/json" \
  -H "X-Service-Method: search" \
  -d '{ "searchTerm": "john", "organization_id": 456, "$limit": 5, "searchIn": "name" }'
