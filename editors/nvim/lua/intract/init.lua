local M = {}

--- Makes a suggestion fit the text as it is now, where the user typed on after it came.
---
--- Neovim 0.12 keeps showing a suggestion while its beginning is being typed, but would still insert it whole at its
--- first position, in front of what was typed. So the typed beginning is taken out again before it is inserted.
---
---@param item vim.lsp.inline_completion.Item
---@return boolean fits false where something else was typed or the cursor went elsewhere
local function fit(item)
  if type(item.insert_text) ~= 'string' or not item.range then
    return true
  end
  local row, col = item.range:to_extmark()
  local cursor = vim.api.nvim_win_get_cursor(0)
  if cursor[1] - 1 ~= row or cursor[2] < col then
    return false
  end
  local typed = vim.api.nvim_buf_get_text(0, row, col, row, cursor[2], {})[1]
  if not vim.startswith(item.insert_text, typed) then
    return false
  end
  if typed ~= '' then
    vim.api.nvim_buf_set_text(0, row, col, row, cursor[2], { '' })
  end
  return true
end

--- Accepts the suggestion shown at the cursor; made for an insert-mode mapping with `expr = true`.
---
---@param key string what to type where there is no suggestion, for example '<Tab>'
---@return string keys for the mapping to type
function M.accept(key)
  local shown = vim.lsp.inline_completion
    and vim.lsp.inline_completion.get({
      on_accept = function(item)
        if fit(item) then
          return item
        end
        -- The mapping has returned by now, so the key is typed from here, without going through the mapping again.
        vim.api.nvim_feedkeys(vim.keycode(key), 'n', false)
      end,
    })
  return shown and '' or key
end

return M
