"""The page in front of the door."""

from html import escape

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{campaign} – mcdal</title>
<link rel="stylesheet" href="/static/sign_in.css">
</head>
<body>
<main>
<h1>{campaign}</h1>
{body}
</main>
</body>
</html>
"""
FORM = """<form method="post" action="/enter/{token}">
{field}
<button>{button}</button>
</form>"""
FIELD = (
    "<label>Your name, as others will read it "
    '<input name="name" required maxlength="60" autocomplete="name" autofocus></label>'
)


def sign_in_page(campaign: str, token: str = "", person: str = "", problem: str = "") -> str:
    """With a form where there is an invitation; `person` is whom it lets in again. Everything is escaped."""
    said = [f'<p class="problem" role="alert">{escape(problem)}</p>'] if problem else []
    if token:
        field = f"<p>Come in as <b>{escape(person)}</b>.</p>" if person else FIELD
        said.append(FORM.format(token=escape(token), field=field, button="Come in"))
    elif not problem:
        said.append("<p>People label images here. To take part you need a link: ask whoever runs this campaign.</p>")
    return PAGE.format(campaign=escape(campaign), body="\n".join(said))
