/*-------------------------------------------------------------------------
 *
 * coverage_words.c
 *	  What columns are called that hold personal data.
 *
 * A name is split into words (first_name, firstName and FirstName are the
 * same two), which are compared with a vocabulary in English, German, French
 * and Spanish.  An entry of several words also matches them written together
 * (firstname).  The type has to fit: a text that is called e-mail is one, a
 * number is a count or refers to one.
 *
 * Words are strong or weak.  Strong ones say it all.  Weak ones (name, note,
 * token) only count in tables whose rows are known to belong to a person; else
 * each product would have a name.
 *
 * What names cannot tell: personal data in columns with names of their own
 * (col7, kennung), in bytea, in texts called by what they are for, in larger
 * objects than the database.  Labels are for these (coverage_label.c).
 *
 * Looks at nothing but names and types.  Memory: the current context.
 *
 * Copyright (c) 2026, pg_janitor contributors
 *
 *-------------------------------------------------------------------------
 */
#include "coverage_internal.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Shapes that an entry is for. */
#define STRINGS (1 << JANITOR_SHAPE_STRING | 1 << JANITOR_SHAPE_STRINGS)
#define NUMBERS (STRINGS | 1 << JANITOR_SHAPE_INTEGER)
#define DATES (STRINGS | 1 << JANITOR_SHAPE_DATE)
#define ADDRESSES (STRINGS | 1 << JANITOR_SHAPE_NETWORK)
#define POINTS (STRINGS | 1 << JANITOR_SHAPE_POINT | 1 << JANITOR_SHAPE_OTHER)
#define STATES (STRINGS | 1 << JANITOR_SHAPE_ENUM)

/* Entries are separated by commas. */
typedef struct Vocabulary
{
	JanitorPersonal what;
	bool		strong;
	int			shapes;
	const char *entries;
} Vocabulary;

static const Vocabulary vocabulary[] = {
	{JANITOR_PERSONAL_EMAIL, true, STRINGS,
	"email,e mail,mail address,mail,courriel,correo,correo electronico"},
	{JANITOR_PERSONAL_PHONE, true, NUMBERS,
	"phone,telephone,mobile,cell phone,fax,msisdn,whatsapp,telefon,handy,mobil,mobilnummer,telefonnummer,rufnummer,portable,telefono,movil,celular"},
	{JANITOR_PERSONAL_NAME, true, STRINGS,
		"first name,last name,full name,given name,family name,middle name,maiden name,birth name,surname,forename,display name,legal name,real name,contact name,customer name,client name,person name,employee name,patient name,student name,teacher name,guest name,recipient name,sender name,author name,owner name,holder name,payer name,"
	"vorname,nachname,familienname,geburtsname,rufname,kundenname,ansprechpartner,prenom,nom famille,nom complet,nombre completo,apellido,apellido paterno"},
	{JANITOR_PERSONAL_ACCOUNT, true, STRINGS,
	"user name,nick name,screen name,login name,user handle,benutzername,nutzername,nom utilisateur,nombre usuario,pseudonyme"},
	{JANITOR_PERSONAL_ADDRESS, true, STRINGS,
		"street,street address,postal address,billing address,shipping address,home address,delivery address,mailing address,address line,zip code,postal code,post code,postcode,zipcode,house number,"
	"strasse,stra\303\237e,hausnummer,plz,postleitzahl,wohnort,anschrift,wohnadresse,code postal,rue,ville,calle,direccion,codigo postal,domicilio"},
	{JANITOR_PERSONAL_IP, true, ADDRESSES,
	"ip,ip address,ip addr,remote addr,remote address,client ip,remote ip,ipv4,ipv6,adresse ip,direccion ip"},
	{JANITOR_PERSONAL_BIRTH, true, DATES,
	"birth date,date birth,date of birth,birthday,dob,birth year,born,born at,born on,geburtsdatum,geburtstag,geburtsjahr,date naissance,date de naissance,fecha nacimiento,fecha de nacimiento"},
	{JANITOR_PERSONAL_NUMBER, true, NUMBERS,
		"ssn,social security number,social security,national id,passport,passport number,tax id,tax number,vat id,iban,bic,account number,bank account,credit card,card number,pan,driver license,driving licence,license plate,insurance number,"
	"steuernummer,steuer id,ausweisnummer,reisepass,kontonummer,kennzeichen,versicherungsnummer,sozialversicherungsnummer,numero securite sociale,numero passeport,dni,nif,nie,curp,pasaporte"},
	{JANITOR_PERSONAL_DEVICE, true, STRINGS,
	"user agent,device id,device fingerprint,browser fingerprint,advertising id,idfa,imei,imsi,mac address,push token"},
	{JANITOR_PERSONAL_PICTURE, true, STRINGS,
	"avatar,avatar url,profile picture,profile image,profile photo,profilbild,photo profil,foto perfil"},
	{JANITOR_PERSONAL_SENSITIVE, true, STATES,
		"gender,sex,ethnicity,religion,nationality,citizenship,marital status,sexual orientation,disability,diagnosis,blood type,"
	"geschlecht,religionszugehoerigkeit,konfession,staatsangehoerigkeit,familienstand,sexe,nationalite,etat civil,sexo,nacionalidad,estado civil"},
	{JANITOR_PERSONAL_PLACE, true, POINTS,
	"latitude,longitude,geo location,geolocation,gps,last location,current location"},

	{JANITOR_PERSONAL_NAME, false, STRINGS, "name,nom,nombre"},
	{JANITOR_PERSONAL_ACCOUNT, false, STRINGS,
	"login,handle,nick,alias,account,user,author,owner,customer,client,contact,created by,updated by,benutzer,nutzer,utilisateur,usuario"},
	{JANITOR_PERSONAL_ADDRESS, false, STRINGS,
	"address,city,town,zip,adresse,ort,stadt,ciudad,location"},
	{JANITOR_PERSONAL_PLACE, false, POINTS, "lat,lng,lon,position,geom,place"},
	{JANITOR_PERSONAL_DEVICE, false, STRINGS, "device,browser,agent,fingerprint,cookie,referrer,referer"},
	{JANITOR_PERSONAL_PICTURE, false, STRINGS, "photo,picture,image,foto,bild"},
	{JANITOR_PERSONAL_SENSITIVE, false, STATES, "locale,preferred locale,language,health,medical"},
	{JANITOR_PERSONAL_SECRET, false, STRINGS,
	"password,passwd,pwd,passwort,secret,token,key hash,api key,credential,signature,otp,pin"},
	{JANITOR_PERSONAL_TEXT, false, STRINGS,
		"title,note,comment,message,body,description,remark,bio,biography,about,content,text,subject,reason,feedback,answer,question,review,metadata,payload,data,detail,"
	"notiz,bemerkung,kommentar,nachricht,beschreibung,betreff,anmerkung,remarque,commentaire,nota,comentario,mensaje,descripcion,observacion"},
};

/* As the last word these say that the column is about the data, not it. */
static const char *const attributes[] = {
	"id", "uuid", "count", "status", "state", "type", "kind", "template",
	"format", "verified", "confirmed", "enabled", "sent", "at", "on", "flag",
	"length", "size", "version", "option", "setting", "anzahl", "typ"
};

typedef struct Entry
{
	const Vocabulary *vocabulary;
	char	   *words;			/* " first name " */
	char	   *together;		/* " firstname " */
} Entry;

struct JanitorWords
{
	List	   *entries;		/* of Entry; strong ones first */
};

static const char *const personal_names[] = {
	[JANITOR_NOT_PERSONAL] = "nothing",
	[JANITOR_PERSONAL_NAME] = "a name",
	[JANITOR_PERSONAL_ACCOUNT] = "an account",
	[JANITOR_PERSONAL_EMAIL] = "an e-mail address",
	[JANITOR_PERSONAL_PHONE] = "a telephone number",
	[JANITOR_PERSONAL_ADDRESS] = "a postal address",
	[JANITOR_PERSONAL_IP] = "a network address",
	[JANITOR_PERSONAL_BIRTH] = "a date of birth",
	[JANITOR_PERSONAL_NUMBER] = "an official or payment number",
	[JANITOR_PERSONAL_PLACE] = "a location",
	[JANITOR_PERSONAL_DEVICE] = "a device",
	[JANITOR_PERSONAL_PICTURE] = "a picture",
	[JANITOR_PERSONAL_SENSITIVE] = "a personal attribute",
	[JANITOR_PERSONAL_SECRET] = "a credential",
	[JANITOR_PERSONAL_TEXT] = "free text",
	[JANITOR_PERSONAL_DOCUMENT] = "a document of any content",
	[JANITOR_PERSONAL_LABEL] = "labelled personal",
};

const char *
janitor_personal_name(JanitorPersonal what)
{
	return personal_names[what];
}

/* --- types --- */

static JanitorShape
shape_of_base(Oid type)
{
	char		category;
	bool		preferred;

	switch (type)
	{
		case JSONOID:
		case JSONBOID:
		case XMLOID:
			return JANITOR_SHAPE_DOCUMENT;
		case INETOID:
		case CIDROID:
			return JANITOR_SHAPE_NETWORK;
		case MACADDROID:
		case MACADDR8OID:
			return JANITOR_SHAPE_HARDWARE;
		case POINTOID:
			return JANITOR_SHAPE_POINT;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
			return JANITOR_SHAPE_INTEGER;
		case BOOLOID:
			return JANITOR_SHAPE_ENUM;
		default:
			break;
	}
	get_type_category_preferred(type, &category, &preferred);
	switch (category)
	{
		case TYPCATEGORY_STRING:
			return JANITOR_SHAPE_STRING;
		case TYPCATEGORY_DATETIME:
			return JANITOR_SHAPE_DATE;
		case TYPCATEGORY_ENUM:
			return JANITOR_SHAPE_ENUM;
		case TYPCATEGORY_GEOMETRIC:
			return JANITOR_SHAPE_POINT;
		default:
			return JANITOR_SHAPE_OTHER;
	}
}

JanitorShape
janitor_shape(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element = get_element_type(base);
	JanitorShape shape;
	char	   *name;

	if (OidIsValid(element))
	{
		shape = shape_of_base(getBaseType(element));
		return shape == JANITOR_SHAPE_STRING ? JANITOR_SHAPE_STRINGS : shape;
	}
	shape = shape_of_base(base);
	name = shape == JANITOR_SHAPE_OTHER && base >= FirstNormalObjectId ?
		format_type_be(base) : NULL;
	if (name != NULL && strstr(name, "hstore") != NULL)
		return JANITOR_SHAPE_DOCUMENT;
	return shape;
}

/* --- words --- */

static bool
ends_with(const char *text, int length, const char *end)
{
	int			end_length = strlen(end);

	return length >= end_length &&
		memcmp(text + length - end_length, end, end_length) == 0;
}

/* users -> user, addresses -> address, countries -> country; not status. */
static void
to_singular(StringInfo text, int start)
{
	char	   *word = text->data + start;
	int			length = text->len - start;

	if (length <= 3 || !ends_with(word, length, "s") ||
		ends_with(word, length, "us") || ends_with(word, length, "is"))
		return;
	if (ends_with(word, length, "sses") || ends_with(word, length, "xes"))
		text->len -= 2;
	else if (ends_with(word, length, "ies"))
	{
		text->len -= 2;
		text->data[text->len - 1] = 'y';
	}
	else if (!ends_with(word, length, "ss"))
		text->len -= 1;
	text->data[text->len] = '\0';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
is_word_character(char c)
{
	return is_upper(c) || (c >= 'a' && c <= 'z') || IS_HIGHBIT_SET(c);
}

/* Does a new word begin at this character: userName, IPAddress? */
static bool
begins_word(const char *name, const char *at)
{
	return at > name && is_upper(at[0]) && is_word_character(at[-1]) &&
		(!is_upper(at[-1]) || (at[1] >= 'a' && at[1] <= 'z'));
}

char *
janitor_words_split(const char *name)
{
	StringInfoData text;
	int			start = 1;		/* of the word in hand */

	initStringInfo(&text);
	appendStringInfoChar(&text, ' ');
	for (const char *at = name; *at != '\0'; at++)
	{
		if ((!is_word_character(*at) || begins_word(name, at)) &&
			text.len > start)
		{
			to_singular(&text, start);
			appendStringInfoChar(&text, ' ');
			start = text.len;
		}
		if (is_word_character(*at))
			appendStringInfoChar(&text, pg_ascii_tolower(*at));
	}
	if (text.len > start)
	{
		to_singular(&text, start);
		appendStringInfoChar(&text, ' ');
	}
	return text.data;
}

/* " a b " -> " ab " */
static char *
together(const char *words)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, ' ');
	for (; *words != '\0'; words++)
		if (*words != ' ')
			appendStringInfoChar(&text, *words);
	appendStringInfoChar(&text, ' ');
	return text.data;
}

static List *
add_entries(List *list, const Vocabulary *from)
{
	char	   *entries = pstrdup(from->entries);
	char	   *rest = NULL;

	for (char *word = strtok_r(entries, ",", &rest); word != NULL;
		 word = strtok_r(NULL, ",", &rest))
	{
		Entry	   *entry = palloc(sizeof(Entry));

		entry->vocabulary = from;
		entry->words = janitor_words_split(word);
		entry->together = together(entry->words);
		list = lappend(list, entry);
	}
	return list;
}

JanitorWords *
janitor_words(void)
{
	JanitorWords *words = palloc0(sizeof(JanitorWords));

	for (int i = 0; i < lengthof(vocabulary); i++)
		words->entries = add_entries(words->entries, &vocabulary[i]);
	return words;
}

/* Is the last word one of these? */
static bool
last_word_in(const char *words, const char *const *list, int count)
{
	for (int i = 0; i < count; i++)
		if (ends_with(words, strlen(words), psprintf(" %s ", list[i])))
			return true;
	return false;
}

/*
 * A strong entry matches anywhere in the name; a weak one is its end: the
 * text of a message, but not a message's number.  A name by itself is all of
 * it: files have names, too.
 */
static bool
matches(const Entry *entry, const char *words)
{
	if (entry->vocabulary->strong)
		return strstr(words, entry->words) != NULL ||
			strstr(words, entry->together) != NULL;
	if (entry->vocabulary->what == JANITOR_PERSONAL_NAME)
		return strcmp(words, entry->words) == 0;
	return ends_with(words, strlen(words), entry->words) ||
		ends_with(words, strlen(words), entry->together);
}

/* What the type alone says. */
static JanitorPersonal
by_shape(JanitorShape shape)
{
	switch (shape)
	{
		case JANITOR_SHAPE_NETWORK:
			return JANITOR_PERSONAL_IP;
		case JANITOR_SHAPE_HARDWARE:
			return JANITOR_PERSONAL_DEVICE;
		case JANITOR_SHAPE_DOCUMENT:
			return JANITOR_PERSONAL_DOCUMENT;
		default:
			return JANITOR_NOT_PERSONAL;
	}
}

JanitorPersonal
janitor_words_column(const JanitorWords *words, const char *name,
					 JanitorShape shape, bool *strong)
{
	char	   *column = janitor_words_split(name);
	ListCell   *cell;

	*strong = true;
	if (by_shape(shape) != JANITOR_NOT_PERSONAL)
		return by_shape(shape);
	if (last_word_in(column, attributes, lengthof(attributes)))
	{
		/* a national id is one, and a status may be marital */
		if (strstr(column, " national id ") == NULL &&
			strstr(column, " tax id ") == NULL &&
			strstr(column, " marital status ") == NULL &&
			strstr(column, " device id ") == NULL &&
			strstr(column, " born ") == NULL)
			return JANITOR_NOT_PERSONAL;
	}
	foreach(cell, words->entries)
	{
		const Entry *entry = lfirst(cell);

		if ((entry->vocabulary->shapes & (1 << shape)) != 0 &&
			matches(entry, column))
		{
			*strong = entry->vocabulary->strong;
			return entry->vocabulary->what;
		}
	}
	return JANITOR_NOT_PERSONAL;
}

/* --- columns that refer to somebody --- */

/* What a key's name ends in. */
static const char *const key_words[] = {
	"id", "uuid", "guid", "uid", "key", "no", "nr", "number", "code", "ref",
	"fk", "pk"
};

/* Parts that persons play. */
static const char *const role_words[] = {
	"actor", "author", "owner", "creator", "sender", "recipient", "receiver",
	"member", "account", "customer", "client", "user", "person", "employee",
	"contact", "assignee", "reviewer", "approver", "buyer", "seller",
	"subscriber", "follower", "followee", "friend", "inviter", "invitee",
	"student", "teacher", "patient", "guest", "visitor", "profile",
	"benutzer", "nutzer", "kunde", "mitarbeiter", "mitglied", "empfaenger",
	"utilisateur", "usuario", "cliente", "auteur", "autor"
};

/*
 * The name of a key without its last word: " user " of user_id and of
 * "userId"; NULL if it does not end as keys do.
 */
static char *
without_key_word(const char *column)
{
	char	   *words = janitor_words_split(column);
	int			length = strlen(words);

	for (int i = 0; i < lengthof(key_words); i++)
	{
		char	   *end = psprintf(" %s ", key_words[i]);

		if (ends_with(words, length, end) && length > strlen(end))
		{
			words[length - strlen(end) + 1] = '\0';
			return words;
		}
	}
	return NULL;
}

/* " app user " -> " user " */
static char *
last_word(const char *words)
{
	const char *at = words + strlen(words) - 1;

	while (at > words && at[-1] != ' ')
		at--;
	return at > words ? psprintf(" %s", at) : pstrdup(words);
}

bool
janitor_words_refer(const char *column, const char *table)
{
	char	   *words = janitor_words_split(column);
	char	   *rest = without_key_word(column);
	char	   *name = janitor_words_split(table);
	char	   *last = last_word(name);

	if (strlen(last) <= 3)
		return false;
	if (rest == NULL)			/* userid, useruuid */
		return strcmp(words, psprintf(" %.*sid ", (int) strlen(last) - 2,
									  last + 1)) == 0 ||
			strcmp(words, psprintf(" %.*suuid ", (int) strlen(last) - 2,
								   last + 1)) == 0;
	return strcmp(rest, name) == 0 || ends_with(rest, strlen(rest), last);
}

bool
janitor_words_role(const char *column, bool *actor)
{
	char	   *words = janitor_words_split(column);
	char	   *rest = without_key_word(column);

	*actor = strstr(words, " by ") != NULL;
	if (*actor)
		return true;
	return rest != NULL && last_word_in(rest, role_words, lengthof(role_words));
}

bool
janitor_words_record(const char *table)
{
	static const char *const records[] = {
		" audit ", " log ", " history ", " invoice ", " payment ", " order ",
		" transaction ", " ledger ", " booking ", " receipt ", " contract ",
		" rechnung ", " zahlung ", " buchung ", " vertrag ", " facture ",
		" commande ", " paiement ", " factura ", " pedido ", " pago "
	};
	char	   *words = janitor_words_split(table);

	for (int i = 0; i < lengthof(records); i++)
		if (strstr(words, records[i]) != NULL)
			return true;
	return false;
}

bool
janitor_words_erasure_time(const char *column)
{
	static const char *const times[] = {
		" delete at ", " deletion at ", " delete after ", " erase at ",
		" erase after ", " erasure at ", " purge at ", " anonymize at ",
		" deletion scheduled at ", " scheduled deletion at ", " deletion due at ",
		" deletion date "
	};
	char	   *words = janitor_words_split(column);

	for (int i = 0; i < lengthof(times); i++)
		if (ends_with(words, strlen(words), times[i]))
			return true;
	return false;
}
